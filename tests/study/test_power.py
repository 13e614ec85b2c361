"""Verdicts, the least that can be seen, and what it would take: by hand, against scipy, and by simulation."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from rlvid.study.power import EQUIVALENCE_MARGIN, detectable, needed, verdict
from rlvid.study.stats import Interval, difference


@pytest.mark.parametrize(
    ("interval", "p", "says"),
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
def test_a_verdict_needs_the_test_and_the_interval(interval, p, says):
    assert verdict(interval, p) == says


def test_equivalence_is_two_one_sided_tests():
    """Of paired differences, at half of .05, against scipy's t-tests."""
    rng, agreed, called = np.random.default_rng(3), 0, 0
    for spread in rng.uniform(0.01, 0.3, 100):
        a = (rng.random((1, 1500)) < 0.5).astype(float)
        b = np.where(rng.random((1, 1500)) < spread, 1 - a, a)
        gaps = (a - b)[0]
        tests = (
            ttest_1samp(gaps, s * EQUIVALENCE_MARGIN, alternative=w).pvalue for s, w in ((-1, "greater"), (1, "less"))
        )
        tost, ours = max(tests) < 0.025, verdict(difference(a, b, True), 1.0).startswith("equivalent")
        agreed, called = agreed + (tost == ours), called + ours
    assert agreed >= 96 and 20 < called < 90, (agreed, called)


def test_arms_that_answer_alike_may_still_differ_elsewhere():
    few, many = np.ones((1, 50)), np.ones((1, 500))
    assert verdict(difference(few, few, True), 1.0) == "not distinguishable"
    assert verdict(difference(many, many, True), 1.0) == "equivalent within 3"


@pytest.mark.parametrize(
    ("questions", "points"),
    [(923, (2.9, 4.1, 5.1)), (1321, (2.4, 3.4, 4.2)), (2432, (1.8, 2.5, 3.1)), (4676, (1.3, 1.8, 2.2))],
)
def test_the_least_that_each_level_of_the_benchmark_can_show(questions, points):
    assert [round(100 * detectable(questions, d), 1) for d in (0.1, 0.2, 0.3)] == list(points)
    assert detectable(questions, 0.1, design=4.0) == pytest.approx(2 * detectable(questions, 0.1))


def test_the_least_that_can_be_seen_is_seen_four_times_in_five():
    rng, n, discordance = np.random.default_rng(5), 1000, 0.2
    gap = detectable(n, discordance)
    drawn = rng.choice(
        [1, -1, 0], p=[(discordance + gap) / 2, (discordance - gap) / 2, 1 - discordance], size=(4000, n)
    )
    assert (ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.03)


def test_one_seed_needs_questions_as_millers_formula_says():
    a, b = np.repeat([[1.0, 0.0]], 100, 1), np.repeat([[1.0, 1.0, 0.0, 0.0]], [90, 10, 30, 70], 1)
    b = np.concatenate([np.ones(90), np.zeros(10), np.ones(5), np.zeros(95)])[None]  # 10 lost, 5 gained of 200
    n = needed(a, b, True, None)
    assert n.questions == pytest.approx((2.8016 / (5 / 200)) ** 2 * (a - b).var(ddof=1) / 200, rel=1e-4)
    assert np.isnan(n.seeds), "one seed says nothing about seeds"
    copied = needed(np.tile(a, 4), np.tile(b, 4), True, np.tile(np.arange(200), 4))
    assert copied.questions == pytest.approx(n.questions), "a video asked four times is one"


def test_more_seeds_or_more_questions_by_where_the_doubt_is():
    rng = np.random.default_rng(6)
    gap, noise = 0.03, np.zeros((6, 2000))
    seeds = noise + gap + rng.normal(0, 0.1, (6, 1)) + rng.normal(0, 0.3, (6, 2000))
    questions = noise + gap + rng.normal(0, 1.0, (1, 2000)) + rng.normal(0, 0.3, (6, 2000))
    seeds, questions = seeds - seeds.mean() + gap, questions - questions.mean() + gap
    a, b = (needed(gaps, noise, True, None) for gaps in (seeds, questions))
    assert a.questions == np.inf and a.seeds > 20, "luck of the seeds: no number of questions would do"
    assert b.seeds == np.inf and b.questions > 3, "luck of the questions: no number of seeds would do"
    spread = seeds.mean(1).var(ddof=1)
    assert a.seeds == pytest.approx(spread * (2.8016 / gap) ** 2, rel=0.05, abs=1)


def test_what_it_would_take_is_enough():
    """Worlds of the number of seeds that `needed` names see their difference in four of five."""
    rng, gap, sd = np.random.default_rng(8), 0.04, 0.05
    pilot = gap + rng.normal(0, sd, (400, 1)) + rng.normal(0, 0.4, (400, 900))
    n = needed(pilot - pilot.mean() + gap, np.zeros_like(pilot), True, None).seeds
    drawn = gap + rng.normal(0, np.sqrt(sd**2 + 0.4**2 / 900), (4000, n))
    z = drawn.mean(1) / np.sqrt((sd**2 + 0.4**2 / 900) / n)
    assert (abs(z) > 1.96).mean() == pytest.approx(0.8, abs=0.06)
