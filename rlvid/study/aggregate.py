"""Arms over all levels at once, after Agarwal et al. 2021 (arXiv:2108.13264), and pass@k.

Here scores are (S, T): S seeds' accuracies on T levels. The intervals draw seeds anew within each level, level by
level: they say nothing about new questions.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from rlvid.study.stats import CONFIDENCE, RESAMPLES, Interval


def iqm(scores: np.ndarray) -> Interval:
    """The interquartile mean of all S T scores: the mean without the lowest and the highest quarter of them."""
    return _interval(_iqm(scores[None])[0], _iqm(_stratified(scores, 0)))


def probability_of_improvement(a: np.ndarray, b: np.ndarray) -> Interval:
    """(S, T) and (S', T) -> how likely a seed of `a` beats one of `b`, a tie counting half; the mean over levels."""
    return _interval(_wins(a[None], b[None])[0], _wins(_stratified(a, 0), _stratified(b, 1)))


def pass_at_k(right: np.ndarray, asked: int, k: int) -> np.ndarray:
    """(Q,) right ones of `asked` completions -> (Q,) the chance that `k` of them hold a right one, without bias.

    1 - C(n - c, k) / C(n, k) (Chen et al. 2021, arXiv:2107.03374). ValueError unless 1 <= k <= n.
    """
    if not 1 <= k <= asked:
        raise ValueError(f"pass@{k} of {asked} completions")
    wrong = asked - np.asarray(right, dtype=float)
    enough = np.maximum(wrong, k)
    none = gammaln(enough + 1) - gammaln(enough - k + 1) - gammaln(asked + 1) + gammaln(asked - k + 1)
    return np.where(wrong < k, 1.0, 1 - np.exp(none))


def _stratified(scores: np.ndarray, stream: int) -> np.ndarray:
    """(S, T) -> (RESAMPLES, S, T)."""
    drawn = np.random.default_rng(stream).integers(len(scores), size=(RESAMPLES, *scores.shape))
    return np.take_along_axis(scores[None], drawn, axis=1)


def _iqm(scores: np.ndarray) -> np.ndarray:
    """(R, S, T) -> (R,)."""
    ranked = np.sort(scores.reshape(len(scores), -1))
    cut = ranked.shape[1] // 4
    return ranked[:, cut : ranked.shape[1] - cut].mean(1)


def _wins(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(R, S, T) and (R, S', T) -> (R,)."""
    one, other = a[:, :, None], b[:, None]
    return ((one > other) + 0.5 * (one == other)).mean((1, 2, 3))


def _interval(value: float, drawn: np.ndarray) -> Interval:
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(value), float(low), float(high))
