"""Agarwal et al.'s aggregates against scipy and rliable's own tests; pass@k against counting."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, trim_mean

from rlvid.study.aggregate import iqm, pass_at_k, probability_of_improvement


@pytest.mark.parametrize("shape", [(1, 3), (3, 3), (5, 4), (10, 26)])
def test_the_iqm_is_the_trimmed_mean_of_all_scores(shape):
    scores = np.random.default_rng(0).normal(size=shape)
    interval = iqm(scores)
    assert interval.value == pytest.approx(trim_mean(scores, 0.25, axis=None))
    assert interval.low <= interval.value <= interval.high


def test_the_examples_of_rliables_tests_give_the_same():
    """With (S, T) scores (github.com/google-research/rliable, tests/rliable/metrics_test.py)."""
    x, y = np.array([[1, 2], [2, 2], [1, 1], [2, 1]]), np.array([[1, 1], [2, 2], [3, 3]])
    assert (iqm(x).value, iqm(y).value) == (1.5, 2)
    assert probability_of_improvement(x, y).value == pytest.approx(1 / 3)


def test_an_outlying_run_moves_the_mean_but_not_the_iqm():
    scores = np.random.default_rng(1).normal(0.5, 0.01, (8, 3))
    collapsed = scores.copy()
    collapsed[0] = 0.0
    assert abs(iqm(collapsed).value - iqm(scores).value) < 0.005 < scores.mean() - collapsed.mean()


@pytest.mark.parametrize("other_seeds", [3, 5])
def test_the_probability_of_improvement_is_mann_whitneys_u(other_seeds):
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 6, (4, 3)) / 5, rng.integers(0, 5, (other_seeds, 3)) / 5
    statistics = [mannwhitneyu(a[:, level], b[:, level], alternative="greater").statistic for level in range(3)]
    expected = np.mean(statistics) / (4 * other_seeds)
    assert probability_of_improvement(a, b).value == pytest.approx(expected)
    assert probability_of_improvement(b, a).value == pytest.approx(1 - expected)


def test_the_probability_of_improvement_of_equal_and_of_better_arms():
    a = np.full((3, 2), 0.5)
    assert probability_of_improvement(a, a).value == 0.5, "ties count half"
    interval = probability_of_improvement(a + 0.1, a)
    assert (interval.value, interval.low, interval.high) == (1.0, 1.0, 1.0)


def test_seeds_are_resampled_within_each_level():
    """Where only levels differ, and seeds do not, there is no uncertainty."""
    interval = iqm(np.tile([[0.2, 0.5, 0.8]], (5, 1)))
    assert interval.low == interval.value == interval.high == 0.5


def test_the_interval_of_the_iqm_covers_the_truth():
    rng, covered = np.random.default_rng(3), 0
    for _ in range(100):
        interval = iqm(np.array([0.4, 0.5, 0.6]) + rng.normal(0, 0.02, (10, 3)))
        covered += interval.low <= 0.5 <= interval.high
    assert covered >= 88


def test_pass_at_k_is_the_share_of_subsets_with_a_right_completion():
    for n, k in ((4, 1), (4, 3), (6, 2), (8, 8)):
        for correct in range(n + 1):
            marks = [1] * correct + [0] * (n - correct)
            share = np.mean([any(subset) for subset in combinations(marks, k)])
            assert pass_at_k(np.array([correct]), n, k)[0] == pytest.approx(share)
    with pytest.raises(ValueError, match="pass@5 of 4"):
        pass_at_k(np.array([1]), 4, 5)
