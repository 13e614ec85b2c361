"""Arms over all levels together, after Agarwal et al. 2021 (arXiv:2108.13264), and pass@k.

Scores here are (S, T): accuracies of S seeds on T levels. The intervals resample seeds within each level, independently
for each level; they do not cover new questions.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from rlvid.study.stats import CONFIDENCE, RESAMPLES, Interval


def iqm(scores: np.ndarray) -> Interval:
    """Return the interquartile mean of (S, T) scores: the mean without the lowest and the highest quarter of them."""
    return _percentile_interval(_iqm(scores[None])[0], _iqm(_resample_seeds(scores, 0)))


def probability_of_improvement(a: np.ndarray, b: np.ndarray) -> Interval:
    """Return the chance that a seed of (S, T) `a` beats one of (S', T) `b`, a tie counting half; mean over levels."""
    resampled = _win_rate(_resample_seeds(a, 0), _resample_seeds(b, 1))
    return _percentile_interval(_win_rate(a[None], b[None])[0], resampled)


def pass_at_k(correct: np.ndarray, n: int, k: int) -> np.ndarray:
    """Return (Q,) unbiased estimates of pass@k, the probability that k completions contain a right one.

    1 - C(n - c, k) / C(n, k) (Chen et al. 2021, arXiv:2107.03374).

    Args:
        correct: (Q,) c, the number of right completions of each question.
        n: the number of completions of each question.
        k: 1 <= k <= n, else ValueError.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} of {n} completions")
    wrong = n - np.asarray(correct, dtype=float)
    at_least_k = np.maximum(wrong, k)  # with fewer wrong ones the result is 1, whatever stands here
    log_ratio = gammaln(at_least_k + 1) - gammaln(at_least_k - k + 1) - gammaln(n + 1) + gammaln(n - k + 1)
    return np.where(wrong < k, 1.0, 1 - np.exp(log_ratio))


def _resample_seeds(scores: np.ndarray, stream: int) -> np.ndarray:
    """(S, T) -> (RESAMPLES, S, T): in each level S seeds are drawn with replacement."""
    indices = np.random.default_rng(stream).integers(len(scores), size=(RESAMPLES, *scores.shape))
    return np.take_along_axis(scores[None], indices, axis=1)


def _iqm(scores: np.ndarray) -> np.ndarray:
    """(R, S, T) -> (R,)."""
    ranked = np.sort(scores.reshape(len(scores), -1))
    cut = ranked.shape[1] // 4
    return ranked[:, cut : ranked.shape[1] - cut].mean(1)


def _win_rate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(R, S, T) and (R, S', T) -> (R,)."""
    a, b = a[:, :, None], b[:, None]  # (R, S, 1, T) and (R, 1, S', T)
    return ((a > b) + 0.5 * (a == b)).mean((1, 2, 3))


def _percentile_interval(value: float, resampled: np.ndarray) -> Interval:
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(value), float(low), float(high))
