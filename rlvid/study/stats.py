"""Confidence intervals and tests for few seeds and a few hundred questions (Miller 2024, arXiv:2411.00640).

Scores are arrays of shape (S, Q): S seeds by Q questions, 1 where the answer was right. Two arms that are compared
answered the same Q questions in the same order. `videos`, of shape (Q,), numbers each question's video from 0:
questions about one video are not independent, so videos are resampled, exchanged and counted as clusters. None means
that every question has its own video.

Only numpy and scipy.special are imported, so that a report starts at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import numpy as np
from scipy.special import chdtrc, ndtr, stdtrit

from rlvid.utils.proportions import wilson

CONFIDENCE = 0.95
RESAMPLES = 4000


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its confidence interval."""

    value: float
    low: float
    high: float

    def within(self, least: float, most: float) -> Interval:
        """Return it with its ends cut at the smallest and the largest possible value."""
        return Interval(self.value, max(self.low, least), min(self.high, most))


def wilson_interval(correct: float, total: float, confidence: float = CONFIDENCE) -> Interval:
    """Return the proportion correct / total with its score interval (Wilson 1927).

    Unlike the textbook (Wald) interval it is reliable near 0 and 1. `total` may be an effective sample size.
    """
    return Interval(correct / total, *wilson(correct, total, confidence))


def difference_of_proportions(correct: int, total: int, other_correct: int, other_total: int) -> tuple[Interval, float]:
    """Compare two proportions that are not paired: different questions, or unrecorded answers.

    Returns:
        The difference with Newcombe's interval (1998, method 10, from both Wilson intervals), and the two-sided p-value
        of the pooled z-test.
    """
    a, b = wilson_interval(correct, total), wilson_interval(other_correct, other_total)
    difference = a.value - b.value
    low = difference - sqrt((a.value - a.low) ** 2 + (b.high - b.value) ** 2)
    high = difference + sqrt((a.high - a.value) ** 2 + (b.value - b.low) ** 2)
    pooled = (correct + other_correct) / (total + other_total)
    standard_error = sqrt(pooled * (1 - pooled) * (1 / total + 1 / other_total))
    p = float(2 * ndtr(-abs(difference) / standard_error)) if standard_error else 1.0
    return Interval(difference, low, high), p


def design_effect(scores: np.ndarray, videos: np.ndarray | None = None) -> float:
    """Return the factor by which clustering in videos changes the variance of the mean of (S, Q) scores.

    It is the ratio of the clustered variance to that of independent questions, for new questions, of the mean over
    seeds; the effective sample size is Q divided by it. 1 if the scores do not vary.
    """
    deviations = (scores.mean(0) - scores.mean())[None]
    (sums,), sizes = sum_by_video(deviations, videos)
    if len(sizes) < 2 or not deviations.any():
        return 1.0
    return _variance_of_sum(sums) / _variance_of_sum(deviations[0])


def accuracy_interval(scores: np.ndarray, videos: np.ndarray | None = None) -> Interval:
    """Return the mean of (S, Q) scores of 0 or 1, with an interval for new seeds and new videos.

    With several seeds it is a bootstrap. With one seed nothing is known about other seeds: it is Wilson's interval over
    the questions, whose number is reduced by the design effect and because that is estimated from V videos only (Korn
    and Graubard 1998). Equal scores also get this interval, because resampling them would show no uncertainty.
    """
    if len(scores) > 1 and scores.min() < scores.max():
        return bootstrap_interval(scores.mean(), bootstrap_means(scores, videos), count_videos(scores, videos))
    questions, tail = scores.shape[1], (1 + CONFIDENCE) / 2
    t_videos = stdtrit(max(1, count_videos(scores, videos) - 1), tail)
    t_questions = stdtrit(max(1, questions - 1), tail)
    effective = questions / max(1.0, design_effect(scores, videos) * (t_videos / t_questions) ** 2)
    return wilson_interval(scores.mean() * effective, effective)


def permutation_test(
    a: np.ndarray, b: np.ndarray, videos: np.ndarray | None = None, weights: np.ndarray | None = None
) -> float:
    """Return the exact two-sided p-value that (S, Q) and (S', Q) scores differ by chance alone, on these questions.

    Under the null hypothesis, exchanging the arms' answers about a video changes nothing: the difference between the
    arms' numbers of right answers about it, means over seeds, has either sign with probability 1/2. With one seed each
    and one question per video this is the exact McNemar test. The null distribution is computed, not sampled. The
    trained seeds are taken as given; `seed_model` includes the uncertainty about seeds.

    `weights`, (Q,) whole numbers, are those of the questions in the difference; without them, all count alike.
    """
    # Differences in units of 1 / (S S'), so that they are integers; then in units of their greatest common divisor.
    gaps = np.rint(a.sum(0) * len(b) - b.sum(0) * len(a)) * (1 if weights is None else weights)
    differences = sum_by_video(gaps[None], videos)[0].astype(int)
    differences = differences // max(1, np.gcd.reduce(differences, axis=None))
    sizes = abs(differences[differences != 0])

    # null[i] = P(sum of the sizes with random signs = 2 i - sum(sizes)). Each size d splits it in two shifted halves:
    #
    #     sizes ()      [1]                      sum   0
    #     sizes (1)     [1/2, 1/2]               sum  -1, +1
    #     sizes (1, 2)  [1/4, 1/4, 1/4, 1/4]     sum  -3, -1, +1, +3
    null = np.ones(1)
    for size in sizes:
        null = (np.pad(null, (size, 0)) + np.pad(null, (0, size))) / 2
    sums = 2 * np.arange(len(null)) - sizes.sum()
    return min(1.0, null[abs(sums) >= abs(differences.sum())].sum())


def stuart_maxwell_test(table: np.ndarray) -> float:
    """Return the p-value of marginal homogeneity in (K, K) counts of pairs (Stuart 1955).

    The null hypothesis: the first of a pair is each of K kinds as often as the second is. The statistic is chi-square
    with as many degrees of freedom as the differences have; for K = 2 it is McNemar's test without a correction. Pairs
    of equals do not contribute, so the rate at which answers are right does not matter.
    """
    differences = table.sum(1) - table.sum(0)
    covariance = np.diag(table.sum(1) + table.sum(0)) - table - table.T
    rank = np.linalg.matrix_rank(covariance)
    if not rank:
        return 1.0
    return float(chdtrc(rank, differences @ np.linalg.pinv(covariance) @ differences))


def holm_adjust(ps: Sequence[float]) -> list[float]:
    """Adjust p-values so that rejecting those below alpha has a familywise error rate of at most alpha (Holm 1979).

    >>> holm_adjust([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(ps)), key=ps.__getitem__)
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted


def bootstrap_means(scores: np.ndarray, videos: np.ndarray | None = None) -> np.ndarray:
    """Return (RESAMPLES,) means of (S, Q) scores over resampled seeds and videos (pigeonhole, arXiv:0712.1111).

    The draws are the same in every call.
    """
    sums, sizes = sum_by_video(scores, videos)  # (S, V), (V,)
    video_counts = _resample_counts(len(sizes), "videos")  # (RESAMPLES, V)
    seed_counts = _resample_counts(len(scores), "seeds")  # (RESAMPLES, S)
    by_seed = video_counts @ sums.T / (video_counts @ sizes)[:, None]  # (RESAMPLES, S)
    return (seed_counts * by_seed).sum(1) / len(scores)


def sum_by_video(scores: np.ndarray, videos: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Sum (S, Q) scores over the questions of each video.

    Returns:
        (S, V) sums and the (V,) number of questions about each video.
    """
    if videos is None:
        return scores, np.ones(scores.shape[1])
    return np.stack([np.bincount(videos, row) for row in scores]), np.bincount(videos).astype(float)


def count_videos(scores: np.ndarray, videos: np.ndarray | None) -> int:
    """Return V, the number of videos."""
    return scores.shape[1] if videos is None else len(np.unique(videos))


def bootstrap_interval(value: float, resampled: np.ndarray, videos: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the percentile interval of bootstrap estimates, expanded because it is too narrow for few videos.

    The expansion is the factor by which z falls short of Student's t for this number of videos, and n - 1 of n
    (Hesterberg 2014, arXiv:1411.5279).
    """
    n = max(2, videos)
    tail = ndtr(sqrt(n / (n - 1)) * stdtrit(n - 1, (1 - confidence) / 2))
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(float(value), float(low), float(high))


@lru_cache(maxsize=16)
def _resample_counts(n: int, stream: str) -> np.ndarray:
    """Return (RESAMPLES, n) counts of how often each of n items is drawn; always the same for a stream."""
    rng = np.random.default_rng([n, *stream.encode()])
    return np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(RESAMPLES)]).astype(np.float32)


def _variance_of_sum(parts: np.ndarray) -> float:
    """Return the variance of the sum of (n,) independent parts whose mean is 0."""
    return float(parts @ parts) * len(parts) / (len(parts) - 1)
