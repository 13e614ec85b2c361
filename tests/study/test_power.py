"""Verdicts, detectable differences and needed samples: by hand, against scipy, and by simulation."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from rlvid.study.power import EQUIVALENCE_MARGIN, classify_difference, detectable_difference, needed_sample
from rlvid.study.stats import Interval, difference_interval


@pytest.mark.parametrize(
    ("interval", "p", "verdict"),
    [
        (Interval(0.1, 0.02, 0.2), 0.01, "better"),
        (Interval(-0.1, -0.2, -0.02), 0.01, "worse"),
        (Interval(0.1, 0.02, 0.2), 0.06, "not distinguishable"),
        (Interval(0.1, -0.02, 0.2), 0.01, "not distinguishable"),
        (Interval(0.01, -0.02, 0.029), 0.6, "equivalent within 3"),
        (Interval(0.01, 0.005, 0.015), 0.2, "equivalent within 3"),
        (Interval(0.01, 0.005, 0.015), 0.01, "better"),
        (Interval(0.01, -0.01, 0.031), 0.6, "not distinguishable"),
    ],
)
def test_a_verdict_needs_the_test_and_the_interval(interval, p, verdict):
    assert classify_difference(interval, p) == verdict


def test_equivalence_is_two_one_sided_tests():
    """Of paired differences, each at half of .05, against scipy's t-tests."""
    rng, agreed, equivalent = np.random.default_rng(3), 0, 0
    for discordance in rng.uniform(0.01, 0.3, 100):
        a = (rng.random((1, 1500)) < 0.5).astype(float)
        b = np.where(rng.random((1, 1500)) < discordance, 1 - a, a)
        above = ttest_1samp((a - b)[0], -EQUIVALENCE_MARGIN, alternative="greater").pvalue
        below = ttest_1samp((a - b)[0], EQUIVALENCE_MARGIN, alternative="less").pvalue
        ours = classify_difference(difference_interval(a, b, True), 1.0).startswith("equivalent")
        agreed += (max(above, below) < 0.025) == ours
        equivalent += ours
    assert agreed >= 96 and 20 < equivalent < 90, (agreed, equivalent)


def test_arms_with_equal_answers_are_equivalent_only_on_many_questions():
    few, many = np.ones((1, 50)), np.ones((1, 500))
    assert classify_difference(difference_interval(few, few, True), 1.0) == "not distinguishable"
    assert classify_difference(difference_interval(many, many, True), 1.0) == "equivalent within 3"


@pytest.mark.parametrize(
    ("questions", "points"),
    [(923, (2.9, 4.1, 5.1)), (1321, (2.4, 3.4, 4.2)), (2432, (1.8, 2.5, 3.1)), (4676, (1.3, 1.8, 2.2))],
)
def test_the_detectable_differences_of_the_benchmarks_levels(questions, points):
    assert [round(100 * detectable_difference(questions, d), 1) for d in (0.1, 0.2, 0.3)] == list(points)
    clustered = detectable_difference(questions, 0.1, design_effect=4.0)
    assert clustered == pytest.approx(2 * detectable_difference(questions, 0.1))


def test_the_detectable_difference_is_detected_four_times_in_five():
    rng, n, discordance = np.random.default_rng(5), 1000, 0.2
    difference = detectable_difference(n, discordance)
    chances = [(discordance + difference) / 2, (discordance - difference) / 2, 1 - discordance]
    draws = rng.choice([1, -1, 0], p=chances, size=(4000, n))
    assert (ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.03)


def test_one_seed_needs_as_many_questions_as_millers_formula_gives():
    a = np.repeat([[1.0, 0.0]], 100, 1)
    b = np.concatenate([np.ones(90), np.zeros(10), np.ones(5), np.zeros(95)])[None]  # a: 10 gained, 5 lost, of 200
    needed = needed_sample(a, b, True, None)
    assert needed.questions == pytest.approx((2.8016 / (5 / 200)) ** 2 * (a - b).var(ddof=1) / 200, rel=1e-4)
    assert np.isnan(needed.seeds), "one seed does not show how seeds vary"
    copied = needed_sample(np.tile(a, 4), np.tile(b, 4), True, np.tile(np.arange(200), 4))
    assert copied.questions == pytest.approx(needed.questions), "four equal questions about a video are one"


def test_more_seeds_or_more_questions_are_needed_by_where_the_variance_is():
    rng = np.random.default_rng(6)
    difference, zeros = 0.03, np.zeros((6, 2000))
    by_seed = difference + rng.normal(0, 0.1, (6, 1)) + rng.normal(0, 0.3, (6, 2000))
    by_question = difference + rng.normal(0, 1.0, (1, 2000)) + rng.normal(0, 0.3, (6, 2000))
    by_seed, by_question = (x - x.mean() + difference for x in (by_seed, by_question))
    seeds_vary, questions_vary = (needed_sample(x, zeros, True, None) for x in (by_seed, by_question))
    assert seeds_vary.questions == np.inf and seeds_vary.seeds > 20, "no number of questions would be enough"
    assert questions_vary.seeds == np.inf and questions_vary.questions > 3, "no number of seeds would be enough"
    variance = by_seed.mean(1).var(ddof=1)
    assert seeds_vary.seeds == pytest.approx(variance * (2.8016 / difference) ** 2, rel=0.05, abs=1)


def test_the_needed_number_of_seeds_is_enough_four_times_in_five():
    rng, difference, seed_sd = np.random.default_rng(8), 0.04, 0.05
    pilot = difference + rng.normal(0, seed_sd, (400, 1)) + rng.normal(0, 0.4, (400, 900))
    seeds = needed_sample(pilot - pilot.mean() + difference, np.zeros_like(pilot), True, None).seeds
    run_sd = np.sqrt(seed_sd**2 + 0.4**2 / 900)
    draws = difference + rng.normal(0, run_sd, (4000, seeds))
    z = draws.mean(1) / (run_sd / np.sqrt(seeds))
    assert (abs(z) > 1.96).mean() == pytest.approx(0.8, abs=0.06)
