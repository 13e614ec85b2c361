"""Statistics against scipy, against hand-computed cases, and in simulated worlds whose truth is known."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, false_discovery_control, norm

from rlvid.study.stats import Interval, accuracy, difference, holm, permutation, verdict, wilson


def scores(*columns):
    """(S, Q) from (how many questions, the seeds' scores on each of them)."""
    return np.concatenate([np.tile(np.array(seeds, float)[:, None], n) for n, seeds in columns], axis=1)


@pytest.mark.parametrize(("right", "asked"), [(0, 1), (1, 1), (0, 300), (300, 300), (40, 100), (137, 923)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_is_scipys(right, asked, confidence):
    theirs = binomtest(right, asked).proportion_ci(confidence, method="wilson")
    ours = wilson(right, asked, confidence)
    assert (ours.value, ours.low, ours.high) == pytest.approx((right / asked, *theirs), abs=1e-12)


def test_one_seed_and_unanimous_seeds_have_wilsons_interval():
    one = scores((40, [1]), (60, [0]))
    assert accuracy(one) == wilson(40, 100)
    assert accuracy(scores((50, [1, 1, 1]))) == wilson(50, 50), "resampling would see no doubt at all"


def test_an_interval_over_seeds_has_both_doubts():
    def width(interval):
        return interval.high - interval.low

    agree = scores((50, [1, 1, 1, 1]), (50, [0, 0, 0, 0]))
    spread = scores((20, [1, 1, 1, 1]), (30, [1, 1, 0, 0]), (30, [1, 0, 0, 0]), (20, [0, 0, 0, 0]))
    questions = 2 * norm.ppf(0.975) * np.sqrt(0.5 * 0.5 / 100)  # with seeds that agree only questions are in doubt
    assert accuracy(agree).value == 0.5 and width(accuracy(agree)) == pytest.approx(questions, rel=0.05)
    assert accuracy(spread).value == pytest.approx(0.425) and width(accuracy(spread)) > 1.5 * questions
    assert accuracy(spread) == accuracy(spread), "the same numbers each time"


def test_a_difference_on_the_same_questions_is_sharper_than_two_intervals():
    a, b = scores((60, [1]), (35, [0]), (105, [1]), (100, [0])), scores((60, [0]), (35, [1]), (105, [1]), (100, [0]))
    d = difference(a, b, paired=True)
    half = norm.ppf(0.975) * np.sqrt((95 - 25 * 25 / 300) / 300 / 300)  # Wald's for paired proportions
    assert d.value == pytest.approx(25 / 300)
    assert (d.low, d.high) == pytest.approx((25 / 300 - half, 25 / 300 + half), abs=0.004)
    back = difference(b, a, paired=True)
    assert (back.low, back.high) == pytest.approx((-d.high, -d.low), abs=1e-6)


def test_paired_seeds_share_their_luck():
    luck = np.array([[0.0] * 60 + [1.0] * 40, [0.0] * 20 + [1.0] * 80])  # seed 1 is luckier, for both arms
    better = luck.copy()
    better[:, :15] = 1
    paired, apart = (difference(better, luck, paired) for paired in (True, False))
    assert (paired.value, apart.value) == pytest.approx((0.15, 0.15))
    assert 0.07 < paired.low < paired.high < 0.23
    assert apart.low < -0.1, "with seeds drawn apart, luck counts as doubt"


def test_permutation_by_hand():
    a, b = scores((60, [1]), (35, [0]), (200, [1])), scores((60, [0]), (35, [1]), (200, [1]))
    assert permutation(a, b) == pytest.approx(0.0134, abs=5e-5)
    assert permutation(a, a) == 1.0


@given(st.integers(0, 300), st.integers(0, 300))
def test_permutation_of_one_seed_is_the_binomial_test(b, c):
    x, y = scores((b, [1]), (c, [0]), (5, [1])), scores((b, [0]), (c, [1]), (5, [1]))
    theirs = binomtest(min(b, c), b + c).pvalue if b + c else 1.0
    assert permutation(x, y) == pytest.approx(theirs, rel=1e-9)
    assert permutation(x, y) == permutation(y, x)


@pytest.mark.parametrize(("seeds", "others"), [(1, 1), (2, 2), (3, 3), (2, 1), (3, 2)])
def test_with_several_seeds_it_is_the_permutation_test_of_all_signs(seeds, others):
    rng = np.random.default_rng(seeds)
    a, b = (rng.random((seeds, 10)) < 0.7).astype(float), (rng.random((others, 10)) < 0.4).astype(float)
    gaps = a.mean(0) - b.mean(0)
    sums = [abs(np.dot(signs, gaps)) for signs in product((-1, 1), repeat=10)]
    assert permutation(a, b) == pytest.approx(np.mean(np.array(sums) >= abs(gaps.sum()) - 1e-12))


def test_a_copied_seed_is_no_further_evidence():
    a, b = scores((60, [1]), (35, [0])), scores((60, [0]), (35, [1]))
    copied = np.repeat(a, 3, axis=0), np.repeat(b, 3, axis=0)
    assert permutation(*copied) == pytest.approx(permutation(a, b))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_benjamini_hochberg_and_bonferroni(ps):
    adjusted = np.array(holm(ps))
    assert (adjusted <= np.minimum(1, len(ps) * np.array(ps)) + 1e-12).all()
    assert (adjusted >= false_discovery_control(ps) - 1e-12).all()


@pytest.mark.parametrize(
    ("interval", "p", "says"),
    [
        (Interval(0.1, 0.02, 0.2), 0.01, "better"),
        (Interval(-0.1, -0.2, -0.02), 0.01, "worse"),
        (Interval(0.1, 0.02, 0.2), 0.06, "not distinguishable"),
        (Interval(0.1, -0.02, 0.2), 0.01, "not distinguishable"),
        (Interval(0.0, 0.0, 0.0), 1.0, "not distinguishable"),
    ],
)
def test_a_verdict_needs_the_test_and_the_interval(interval, p, says):
    assert verdict(interval, p) == says


def world(seeds, spread, rng, questions=300):
    """(S, Q) scores of an arm whose true accuracy is 1/2: questions differ, and seeds by `spread`."""

    def arm(difficulty):
        chances = difficulty + rng.normal(0, spread, (seeds, 1)) + rng.uniform(-0.1, 0.1, (seeds, questions))
        return (rng.random((seeds, questions)) < chances).astype(float)

    difficulty = rng.uniform(0.2, 0.8, questions)
    return arm(difficulty), arm(difficulty)


@pytest.mark.parametrize(("seeds", "spread", "least"), [(1, 0, 0.92), (2, 0, 0.92), (2, 0.03, 0.88), (5, 0.03, 0.92)])
def test_intervals_cover_the_truth_and_equal_arms_are_not_told_apart(seeds, spread, least):
    rng, worlds = np.random.default_rng(7), 300
    covered = {"accuracy": 0, "difference": 0}
    told_apart = 0
    for _ in range(worlds):
        a, b = world(seeds, spread, rng)
        for name, i, truth in (("accuracy", accuracy(a), 0.5), ("difference", difference(a, b, True), 0.0)):
            covered[name] += i.low <= truth <= i.high
        told_apart += verdict(difference(a, b, True), permutation(a, b)) != "not distinguishable"
    assert min(covered.values()) / worlds >= least, covered
    assert told_apart / worlds <= 0.08
