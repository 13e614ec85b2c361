"""Statistics against scipy, against hand-computed cases, and in simulated worlds whose truth is known."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chi2, chi2_contingency, false_discovery_control, norm, permutation_test, ttest_1samp

from rlvid.study.power import verdict
from rlvid.study.stats import (
    accuracy,
    benjamini_hochberg,
    design_effect,
    difference,
    difference_of_shares,
    holm,
    homogeneity,
    means,
    percentiles,
    permutation,
    wilson,
)


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


def test_it_is_scipys_permutation_test():
    rng = np.random.default_rng(4)
    a, b = (rng.random((2, 12)) < 0.6).astype(float), (rng.random((2, 12)) < 0.4).astype(float)
    theirs = permutation_test(
        (a.mean(0), b.mean(0)), lambda x, y: (x - y).mean(), permutation_type="samples", n_resamples=np.inf
    )
    assert permutation(a, b) == pytest.approx(theirs.pvalue)


def test_videos_change_sign_as_a_whole():
    a, b = scores((40, [1])), scores((40, [0]))
    assert permutation(a, b) == pytest.approx(2 * 0.5**40)
    assert permutation(a, b, np.repeat(range(5), 8)) == pytest.approx(2 * 0.5**5)
    assert permutation(a, b, np.zeros(40, int)) == 1.0, "one video proves nothing"
    shuffled = np.random.default_rng(0).permutation(40)
    assert permutation(a, b, (np.arange(40) // 8)[shuffled]) == permutation(a, b, np.arange(40) // 8)


def test_homogeneity_is_stuarts_and_mcnemars():
    eyes = [[1520, 266, 124, 66], [234, 1512, 432, 78], [117, 362, 1772, 205], [36, 82, 179, 492]]  # Stuart's, 1955
    assert homogeneity(np.array(eyes, float)) == pytest.approx(chi2.sf(11.957, 3), rel=1e-3)
    assert homogeneity(np.array([[30.0, 12.0], [5.0, 40.0]])) == pytest.approx(chi2.sf(7**2 / 17, 1))
    assert homogeneity(np.diag([3.0, 0.0, 5.0])) == 1.0, "all right, in whatever letters"


@pytest.mark.parametrize("right", [0.0, 0.8])
def test_homogeneity_cries_wolf_one_time_in_twenty(right):
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(1000):
        gold, luck = rng.choice(4, 200, p=[0.4, 0.3, 0.2, 0.1]), rng.choice(4, 200, p=[0.4, 0.3, 0.2, 0.1])
        table = np.zeros((4, 4))
        np.add.at(table, (np.where(rng.random(200) < right, gold, luck), gold), 1)
        alarms += homogeneity(table) < 0.05
    assert 0.03 < alarms / 1000 < 0.07


def test_design_effect_by_hand():
    copies = np.tile([[1.0, 0.0, 1.0, 0.0, 0.0, 1.0]], 5)  # each of six questions asked five times
    videos = np.tile(np.arange(6), 5)
    assert design_effect(copies) == 1.0
    assert design_effect(copies, videos) == pytest.approx(5 * (6 / 5) / (30 / 29))
    assert design_effect(np.ones((1, 6)), np.zeros(6, int)) == 1.0
    twice = accuracy(copies, videos)
    assert accuracy(copies).low > twice.low and accuracy(copies).high < twice.high


def test_a_video_asked_twice_tells_nothing_more():
    """The bootstrap of videos is that of questions, whatever the number of copies."""
    a = np.array([[1, 1, 0, 1, 0, 0, 1, 1, 0, 1], [1, 0, 0, 1, 1, 0, 1, 1, 0, 1]], float)
    assert means(np.tile(a, 3), np.tile(np.arange(10), 3)) == pytest.approx(means(a, np.arange(10)), abs=1e-6)


def test_intervals_over_few_videos_are_students():
    """Of normal numbers' mean, the expanded percentile interval is the t interval."""
    values = norm.ppf((np.arange(8) + 0.5) / 8)[None]
    ours = percentiles(values.mean(), means(values), 8)
    theirs = ttest_1samp(values[0], 0).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=0.06)
    assert ours.high > 1.1 * np.quantile(means(values), 0.975)


def test_two_proportions_of_different_questions():
    interval, p = difference_of_shares(56, 70, 48, 80)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert p == pytest.approx(chi2_contingency([[56, 14], [48, 32]], correction=False).pvalue)
    assert difference_of_shares(0, 10, 0, 10)[1] == 1.0


def test_the_papers_counts_say_what_its_readers_should():
    """SEED-Bench-R1 (arXiv:2503.24376), Qwen2-VL-7B, one run each: GRPO beats SFT clearly on L2 and L3, not on L1."""
    found = [
        difference_of_shares(round(grpo * n / 100), n, round(sft * n / 100), n)
        for n, grpo, sft in ((2432, 46.01, 43.79), (923, 50.16, 44.10), (1321, 44.89, 38.15))
    ]
    ps = holm([p for _, p in found])
    assert [verdict(d, p) for (d, _), p in zip(found, ps, strict=True)] == ["not distinguishable", "better", "better"]
    assert [round(100 * d.value, 1) for d, _ in found] == [2.2, 6.1, 6.7]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_benjamini_hochberg_and_bonferroni(ps):
    adjusted = np.array(holm(ps))
    assert (adjusted <= np.minimum(1, len(ps) * np.array(ps)) + 1e-12).all()
    assert (adjusted >= false_discovery_control(ps) - 1e-12).all()
    assert benjamini_hochberg(ps) == pytest.approx(false_discovery_control(ps))


def world(seeds, spread, rng, videos=None, questions=300):
    """(S, Q) scores of two arms whose true accuracy is 1/2: questions differ, seeds by `spread`, and videos by 0.1."""
    luck = np.zeros(questions) if videos is None else rng.normal(0, 0.1, (3, videos.max() + 1))[:, videos]
    difficulty = rng.uniform(0.2, 0.8, questions) + (luck[2] if videos is not None else 0)

    def arm(own):
        chances = difficulty + own + rng.normal(0, spread, (seeds, 1)) + rng.uniform(-0.1, 0.1, (seeds, questions))
        return (rng.random((seeds, questions)) < chances).astype(float)

    return arm(luck[0]), arm(luck[1])


@pytest.mark.parametrize(("seeds", "spread", "least"), [(1, 0, 0.92), (2, 0, 0.92), (2, 0.03, 0.88), (5, 0.03, 0.92)])
def test_intervals_cover_the_truth_and_equal_arms_are_not_told_apart(seeds, spread, least):
    covered, told_apart = simulate(seeds, spread, None)
    assert min(covered.values()) >= least, covered
    assert told_apart <= 0.08


@pytest.mark.parametrize(("seeds", "spread", "least"), [(1, 0, 0.92), (3, 0.02, 0.92)])
def test_so_they_do_where_twelve_videos_have_their_own_luck(seeds, spread, least):
    covered, told_apart = simulate(seeds, spread, np.arange(300) % 12)
    assert min(covered.values()) >= least, covered
    assert told_apart <= 0.08


def test_taken_for_independent_such_questions_would_mislead():
    covered, told_apart = simulate(1, 0, np.arange(300) % 12, known=False)
    assert covered["difference"] < 0.88 and told_apart > 0.1


def simulate(seeds, spread, videos, known=True, worlds=200):
    """How often intervals hold the truth, and how often equal arms are told apart."""
    rng, covered, told_apart = np.random.default_rng(7), {"accuracy": 0, "difference": 0}, 0
    for _ in range(worlds):
        a, b = world(seeds, spread, rng, videos)
        told = videos if known else None
        d = difference(a, b, True, told)
        for name, i, truth in (("accuracy", accuracy(a, told), 0.5), ("difference", d, 0.0)):
            covered[name] += (i.low <= truth <= i.high) / worlds
        told_apart += verdict(d, permutation(a, b, told)) in ("better", "worse")
    return covered, told_apart / worlds
