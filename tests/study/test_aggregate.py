"""Agarwal et al.'s aggregates against scipy, as rliable defines them; pass@k against counting."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, trim_mean

from rlvid.study.aggregate import iqm, pass_at_k, probability_of_improvement


@pytest.mark.parametrize("shape", [(1, 3), (3, 3), (5, 4), (10, 26)])
def test_iqm_is_the_trimmed_mean_of_all_scores(shape):
    scores = np.random.default_rng(0).normal(size=shape)
    assert iqm(scores).value == pytest.approx(trim_mean(scores, 0.25, axis=None))
    assert iqm(scores).low <= iqm(scores).value <= iqm(scores).high


def test_what_rliables_own_tests_expect():
    """Its examples, with (S, T) scores (github.com/google-research/rliable, tests/rliable/metrics_test.py)."""
    x, y = np.array([[1, 2], [2, 2], [1, 1], [2, 1]]), np.array([[1, 1], [2, 2], [3, 3]])
    assert (iqm(x).value, iqm(y).value) == (1.5, 2)
    assert probability_of_improvement(x, y).value == pytest.approx(1 / 3)


def test_an_outlying_run_moves_the_mean_only():
    scores = np.random.default_rng(1).normal(0.5, 0.01, (8, 3))
    broken = scores.copy()
    broken[0] = 0.0
    assert abs(iqm(broken).value - iqm(scores).value) < 0.005 < scores.mean() - broken.mean()


@pytest.mark.parametrize("others", [3, 5])
def test_probability_of_improvement_is_mann_whitneys_u(others):
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 6, (4, 3)) / 5, rng.integers(0, 5, (others, 3)) / 5
    us = [mannwhitneyu(a[:, level], b[:, level], alternative="greater").statistic for level in range(3)]
    assert probability_of_improvement(a, b).value == pytest.approx(np.mean(us) / (4 * others))
    assert probability_of_improvement(b, a).value == pytest.approx(1 - np.mean(us) / (4 * others))


def test_probability_of_improvement_at_its_ends():
    a = np.full((3, 2), 0.5)
    assert probability_of_improvement(a, a).value == 0.5, "ties count half"
    i = probability_of_improvement(a + 0.1, a)
    assert (i.value, i.low, i.high) == (1.0, 1.0, 1.0)


def test_seeds_are_drawn_within_each_level():
    """Where levels differ and seeds do not, there is no doubt at all."""
    i = iqm(np.tile([[0.2, 0.5, 0.8]], (5, 1)))
    assert i.low == i.value == i.high == 0.5


def test_iqms_interval_covers():
    rng, inside = np.random.default_rng(3), 0
    for _ in range(100):
        i = iqm(np.array([0.4, 0.5, 0.6]) + rng.normal(0, 0.02, (10, 3)))
        inside += i.low <= 0.5 <= i.high
    assert inside >= 88


def test_pass_at_k_is_the_share_of_subsets_that_hold_a_right_one():
    for n, k in ((4, 1), (4, 3), (6, 2), (8, 8)):
        for c in range(n + 1):
            marks = [1] * c + [0] * (n - c)
            share = np.mean([any(chosen) for chosen in combinations(marks, k)])
            assert pass_at_k(np.array([c]), n, k)[0] == pytest.approx(share)
    with pytest.raises(ValueError, match="pass@5 of 4"):
        pass_at_k(np.array([1]), 4, 5)
