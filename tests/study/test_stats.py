"""Statistics against scipy, against cases computed by hand, and in simulations whose truth is known."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chi2, chi2_contingency, false_discovery_control, norm, permutation_test, ttest_1samp

from rlvid.study.power import classify_difference
from rlvid.study.stats import (
    accuracy_interval,
    bootstrap_interval,
    bootstrap_means,
    design_effect,
    difference_of_proportions,
    holm_adjust,
    stuart_maxwell_test,
    wilson_interval,
)
from rlvid.study.stats import permutation_test as exact_p


def scores(*blocks):
    """(S, Q) scores from blocks of questions: (how many questions, the S seeds' scores on each of them)."""
    return np.concatenate([np.tile(np.array(seeds, float)[:, None], count) for count, seeds in blocks], axis=1)


def width(interval):
    return interval.high - interval.low


@pytest.mark.parametrize(("correct", "total"), [(0, 1), (1, 1), (0, 300), (300, 300), (40, 100), (137, 923)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_wilson_interval_is_scipys(correct, total, confidence):
    expected = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    interval = wilson_interval(correct, total, confidence)
    assert (interval.value, interval.low, interval.high) == pytest.approx((correct / total, *expected), abs=1e-12)


def test_one_seed_and_equal_scores_have_the_wilson_interval():
    one_seed = scores((40, [1]), (60, [0]))
    assert accuracy_interval(one_seed) == wilson_interval(40, 100)
    equal = scores((50, [1, 1, 1]))
    assert accuracy_interval(equal) == wilson_interval(50, 50), "resampling would show no uncertainty"


def test_an_interval_over_seeds_covers_new_seeds_and_new_questions():
    agreeing = scores((50, [1, 1, 1, 1]), (50, [0, 0, 0, 0]))
    scattered = scores((20, [1, 1, 1, 1]), (30, [1, 1, 0, 0]), (30, [1, 0, 0, 0]), (20, [0, 0, 0, 0]))
    from_questions = 2 * norm.ppf(0.975) * np.sqrt(0.5 * 0.5 / 100)  # seeds that agree leave only this uncertainty
    assert accuracy_interval(agreeing).value == 0.5
    assert width(accuracy_interval(agreeing)) == pytest.approx(from_questions, rel=0.05)
    assert accuracy_interval(scattered).value == pytest.approx(0.425)
    assert width(accuracy_interval(scattered)) > 1.5 * from_questions
    assert accuracy_interval(scattered) == accuracy_interval(scattered), "the bootstrap is deterministic"


def test_the_exact_p_is_the_one_computed_by_hand():
    a, b = scores((60, [1]), (35, [0]), (200, [1])), scores((60, [0]), (35, [1]), (200, [1]))
    assert exact_p(a, b) == pytest.approx(0.0134, abs=5e-5)
    assert exact_p(a, a) == 1.0


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_exact_p_of_one_seed_is_that_of_the_binomial_test(gained, lost):
    a = scores((gained, [1]), (lost, [0]), (5, [1]))
    b = scores((gained, [0]), (lost, [1]), (5, [1]))
    expected = binomtest(min(gained, lost), gained + lost).pvalue if gained + lost else 1.0
    assert exact_p(a, b) == pytest.approx(expected, rel=1e-9)
    assert exact_p(a, b) == exact_p(b, a)


@pytest.mark.parametrize(("seeds", "other_seeds"), [(1, 1), (2, 2), (3, 3), (2, 1), (3, 2)])
def test_the_exact_p_of_several_seeds_is_that_of_all_signs(seeds, other_seeds):
    rng = np.random.default_rng(seeds)
    a = (rng.random((seeds, 10)) < 0.7).astype(float)
    b = (rng.random((other_seeds, 10)) < 0.4).astype(float)
    differences = a.mean(0) - b.mean(0)
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=10)]
    assert exact_p(a, b) == pytest.approx(np.mean(np.array(sums) >= abs(differences.sum()) - 1e-12))


def test_a_copied_seed_does_not_change_the_exact_p():
    a, b = scores((60, [1]), (35, [0])), scores((60, [0]), (35, [1]))
    assert exact_p(np.repeat(a, 3, axis=0), np.repeat(b, 3, axis=0)) == pytest.approx(exact_p(a, b))


def test_the_exact_p_is_that_of_scipys_permutation_test():
    rng = np.random.default_rng(4)
    a, b = (rng.random((2, 12)) < 0.6).astype(float), (rng.random((2, 12)) < 0.4).astype(float)
    expected = permutation_test(
        (a.mean(0), b.mean(0)), lambda x, y: (x - y).mean(), permutation_type="samples", n_resamples=np.inf
    )
    assert exact_p(a, b) == pytest.approx(expected.pvalue)


def test_all_questions_about_a_video_change_sign_together():
    a, b = scores((40, [1])), scores((40, [0]))
    assert exact_p(a, b) == pytest.approx(2 * 0.5**40)
    assert exact_p(a, b, np.repeat(range(5), 8)) == pytest.approx(2 * 0.5**5)
    assert exact_p(a, b, np.zeros(40, int)) == 1.0, "one video proves nothing"
    videos = np.arange(40) // 8
    shuffled = videos[np.random.default_rng(0).permutation(40)]
    assert exact_p(a, b, shuffled) == exact_p(a, b, videos)


def test_marginal_homogeneity_is_stuarts_and_mcnemars():
    eyes = [[1520, 266, 124, 66], [234, 1512, 432, 78], [117, 362, 1772, 205], [36, 82, 179, 492]]  # Stuart's, 1955
    assert stuart_maxwell_test(np.array(eyes, float)) == pytest.approx(chi2.sf(11.957, 3), rel=1e-3)
    assert stuart_maxwell_test(np.array([[30.0, 12.0], [5.0, 40.0]])) == pytest.approx(chi2.sf(7**2 / 17, 1))
    assert stuart_maxwell_test(np.diag([3.0, 0.0, 5.0])) == 1.0, "all answers are right, whatever their letters"


@pytest.mark.parametrize("accuracy", [0.0, 0.8])
def test_the_test_of_homogeneity_has_its_nominal_error_rate(accuracy):
    rng, rejected, frequencies = np.random.default_rng(0), 0, [0.4, 0.3, 0.2, 0.1]
    for _ in range(1000):
        gold, guessed = rng.choice(4, 200, p=frequencies), rng.choice(4, 200, p=frequencies)
        table = np.zeros((4, 4))
        np.add.at(table, (np.where(rng.random(200) < accuracy, gold, guessed), gold), 1)
        rejected += stuart_maxwell_test(table) < 0.05
    assert 0.03 < rejected / 1000 < 0.07


def test_the_design_effect_is_the_one_computed_by_hand():
    copies = np.tile([[1.0, 0.0, 1.0, 0.0, 0.0, 1.0]], 5)  # each of six questions five times
    videos = np.tile(np.arange(6), 5)
    assert design_effect(copies) == 1.0
    assert design_effect(copies, videos) == pytest.approx(5 * (6 / 5) / (30 / 29))
    assert design_effect(np.ones((1, 6)), np.zeros(6, int)) == 1.0
    clustered, independent = accuracy_interval(copies, videos), accuracy_interval(copies)
    assert clustered.low < independent.low and independent.high < clustered.high


def test_copied_questions_about_a_video_do_not_change_the_bootstrap():
    a = np.array([[1, 1, 0, 1, 0, 0, 1, 1, 0, 1], [1, 0, 0, 1, 1, 0, 1, 1, 0, 1]], float)
    copied = bootstrap_means(np.tile(a, 3), np.tile(np.arange(10), 3))
    assert copied == pytest.approx(bootstrap_means(a, np.arange(10)), abs=1e-6)


def test_the_expanded_percentile_interval_of_a_normal_mean_is_students():
    values = norm.ppf((np.arange(8) + 0.5) / 8)[None]
    interval = bootstrap_interval(values.mean(), bootstrap_means(values), 8)
    expected = ttest_1samp(values[0], 0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=0.06)
    assert interval.high > 1.1 * np.quantile(bootstrap_means(values), 0.975)


def test_unpaired_proportions_have_newcombes_interval_and_the_chi_square_p():
    interval, p = difference_of_proportions(56, 70, 48, 80)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert p == pytest.approx(chi2_contingency([[56, 14], [48, 32]], correction=False).pvalue)
    assert difference_of_proportions(0, 10, 0, 10)[1] == 1.0


def test_grpo_beats_sft_on_l2_and_l3_but_not_on_l1_in_the_papers_counts():
    """SEED-Bench-R1 (arXiv:2503.24376), Qwen2-VL-7B, one run each."""
    tests = [
        difference_of_proportions(round(grpo * n / 100), n, round(sft * n / 100), n)
        for n, grpo, sft in ((2432, 46.01, 43.79), (923, 50.16, 44.10), (1321, 44.89, 38.15))
    ]
    adjusted = holm_adjust([p for _, p in tests])
    verdicts = [classify_difference(difference, p) for (difference, _), p in zip(tests, adjusted, strict=True)]
    assert verdicts == ["undecided", "better", "better"]
    assert [round(100 * difference.value, 1) for difference, _ in tests] == [2.2, 6.1, 6.7]


def test_holms_adjustment_is_the_one_computed_by_hand():
    assert holm_adjust([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_adjust([0.6, 0.7]) == [1.0, 1.0] and holm_adjust([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_benjamini_hochberg_and_bonferroni(ps):
    adjusted = np.array(holm_adjust(ps))
    assert (adjusted <= np.minimum(1, len(ps) * np.array(ps)) + 1e-12).all()
    assert (adjusted >= false_discovery_control(ps) - 1e-12).all()


def draw_equal_arms(seeds, seed_sd, rng, videos=None, questions=300):
    """(S, Q) scores of two arms whose true accuracy is 1/2.

    Questions differ in difficulty, seeds by `seed_sd`, and videos by 0.1, for each arm and for both together.
    """
    difficulty, arm_effects = rng.uniform(0.2, 0.8, questions), np.zeros((2, questions))
    if videos is not None:
        *arm_effects, shared = rng.normal(0, 0.1, (3, videos.max() + 1))[:, videos]
        difficulty = difficulty + shared

    def draw(arm_effect):
        seed_effects = rng.normal(0, seed_sd, (seeds, 1))
        chances = difficulty + arm_effect + seed_effects + rng.uniform(-0.1, 0.1, (seeds, questions))
        return (rng.random((seeds, questions)) < chances).astype(float)

    return draw(arm_effects[0]), draw(arm_effects[1])


def simulate(seeds, seed_sd, videos, videos_known=True, repetitions=200):
    """The shares of simulations in which the interval of an accuracy holds the truth, and in which p is below .05."""
    rng, covered, rejected = np.random.default_rng(7), 0, 0
    for _ in range(repetitions):
        a, b = draw_equal_arms(seeds, seed_sd, rng, videos)
        known = videos if videos_known else None
        accuracy = accuracy_interval(a, known)
        covered += (accuracy.low <= 0.5 <= accuracy.high) / repetitions
        rejected += (exact_p(a, b, known) < 0.05) / repetitions
    return covered, rejected


@pytest.mark.parametrize("seeds", [1, 2])
def test_intervals_cover_the_truth_and_equal_arms_are_rarely_rejected(seeds):
    covered, rejected = simulate(seeds, 0, None)
    assert covered >= 0.92
    assert rejected <= 0.08


@pytest.mark.parametrize(("seeds", "least"), [(2, 0.88), (5, 0.92)])
def test_where_seeds_scatter_intervals_cover_the_truth_and_the_exact_test_rejects_too_often(seeds, least):
    """The exact test is of these runs: it takes a seed effect for one of the arms. Reports use the seed model."""
    covered, rejected = simulate(seeds, 0.03, None)
    assert covered >= least
    assert rejected > 0.1


@pytest.mark.parametrize(("seeds", "seed_sd"), [(1, 0), (3, 0.02)])
def test_where_questions_are_about_twelve_videos_both_hold(seeds, seed_sd):
    covered, rejected = simulate(seeds, seed_sd, np.arange(300) % 12)
    assert covered >= 0.92
    assert rejected <= 0.08


def test_ignoring_that_questions_share_videos_would_mislead():
    covered, rejected = simulate(1, 0, np.arange(300) % 12, videos_known=False)
    assert covered < 0.88 and rejected > 0.1
