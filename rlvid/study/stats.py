"""Honest numbers from few seeds and a few hundred questions (Miller 2024, arXiv:2411.00640).

Scores are matrices, everywhere here: (S, Q), S seeds by Q questions, 1 where the answer was right. Two arms that are
compared answered the same Q questions in the same order. `videos`, (Q,), numbers each question's video from 0:
questions about one video share its luck, so that videos are drawn, flipped and counted whole; None gives each question
its own. Only numpy and scipy.special are imported: a report answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import numpy as np
from scipy.special import chdtrc, ndtr, ndtri, stdtrit

CONFIDENCE = 0.95
RESAMPLES = 4000


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its confidence interval."""

    value: float
    low: float
    high: float


def wilson(right: float, asked: float, confidence: float = CONFIDENCE) -> Interval:
    """A proportion's score interval (Wilson 1927); unlike the textbook one it is sound near 0 and 1."""
    z = ndtri((1 + confidence) / 2)
    share = right / asked
    centre = (share + z * z / (2 * asked)) / (1 + z * z / asked)
    half = z / (1 + z * z / asked) * sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    return Interval(share, float(centre - half), float(centre + half))


def difference_of_shares(right: int, asked: int, other_right: int, other_asked: int) -> tuple[Interval, float]:
    """Two proportions of different questions, or where nobody kept which: their difference, and p that it is chance.

    Newcombe's interval (1998, method 10, from both Wilson intervals) and the pooled two-sided z-test.
    """
    a, b = wilson(right, asked), wilson(other_right, other_asked)
    gap, pooled = a.value - b.value, (right + other_right) / (asked + other_asked)
    low = gap - sqrt((a.value - a.low) ** 2 + (b.high - b.value) ** 2)
    high = gap + sqrt((a.high - a.value) ** 2 + (b.value - b.low) ** 2)
    error = sqrt(pooled * (1 - pooled) * (1 / asked + 1 / other_asked))
    return Interval(gap, low, high), float(2 * ndtr(-abs(gap) / error)) if error else 1.0


def design_effect(scores: np.ndarray, videos: np.ndarray | None = None) -> float:
    """How many times the variance of (S, Q) scores' mean is what it would be, were every question about another video.

    The ratio of the clustered to the plain variance, over new questions, of the mean over seeds; 1 without any spread.
    """
    gaps = (scores.mean(0) - scores.mean())[None]
    (totals,), asked = by_video(gaps, videos)
    return _variance(totals) / _variance(gaps[0]) if len(asked) > 1 and gaps.any() else 1.0


def accuracy(scores: np.ndarray, videos: np.ndarray | None = None, confidence: float = CONFIDENCE) -> Interval:
    """(S, Q) scores of 0 or 1 -> their mean, with an interval for new seeds on new videos' questions.

    One seed says nothing about seeds: Wilson's interval over the questions, as if they were fewer, by the design effect
    and for its being estimated from V videos (Korn and Graubard 1998). So too where all scores are equal and
    resampling would see no doubt at all.
    """
    if len(scores) > 1 and scores.min() < scores.max():
        return percentiles(scores.mean(), means(scores, videos), count(scores, videos), confidence)
    asked, tail = scores.shape[1], (1 + confidence) / 2
    wider = stdtrit(max(1, count(scores, videos) - 1), tail) / stdtrit(max(1, asked - 1), tail)
    asked /= max(1.0, design_effect(scores, videos) * wider**2)
    return wilson(scores.mean() * asked, asked, confidence)


def difference(
    a: np.ndarray, b: np.ndarray, paired: bool, videos: np.ndarray | None = None, confidence: float = CONFIDENCE
) -> Interval:
    """(S, Q) and (S', Q) scores -> mean of `a` less mean of `b`, with an interval.

    Videos are resampled for both arms together; so are seeds if the arms' seeds are `paired` row by row: the same
    prompts in the same order, the same flipped labels. Otherwise each arm's seeds are drawn apart. Arms that answer
    everything alike differ by chance in fewer questions than Wilson's upper end for none of them.
    """
    drawn = means(a - b, videos) if paired else means(a, videos) - means(b, videos, "other seeds")
    if not drawn.any():
        most = wilson(0, a.shape[1], confidence).high
        return Interval(0.0, -most, most)
    return percentiles(a.mean() - b.mean(), drawn, count(a, videos), confidence)


def permutation(a: np.ndarray, b: np.ndarray, videos: np.ndarray | None = None) -> float:
    """Two-sided exact p that (S, Q) and (S', Q) scores differ by chance alone, on these questions.

    Were it chance, exchanging the arms' answers about a video would change nothing: the difference of their right
    answers there, means over seeds, has either sign with probability 1/2. With one seed each and a video for each
    question this is the exact McNemar test. The null distribution of the sum is computed, not sampled. It takes the
    trained seeds as given; doubt about seeds is in `difference`.
    """
    gaps, _ = by_video(np.rint(a.sum(0) * len(b) - b.sum(0) * len(a))[None], videos)  # in units of 1 / (S S')
    sizes = abs(gaps[gaps != 0]).astype(int)
    null = np.ones(1)  # P(sum of signed sizes), from -total to +total in steps of 2
    for size in sizes:
        null = (np.pad(null, (size, 0)) + np.pad(null, (0, size))) / 2
    sums = 2 * np.arange(len(null)) - sizes.sum()
    return min(1.0, null[abs(sums) >= abs(gaps.sum())].sum())


def homogeneity(table: np.ndarray) -> float:
    """(K, K) counts of pairs -> p that a pair's first is each of K kinds as often as its second, by chance.

    Stuart's test (1955), chi-square in as many degrees as the gaps can have; for K = 2 it is McNemar's without a
    correction. A pair of equals says nothing, so answers may be right as often as they like.
    """
    gaps, spread = table.sum(1) - table.sum(0), np.diag(table.sum(1) + table.sum(0)) - table - table.T
    rank = np.linalg.matrix_rank(spread)
    return float(chdtrc(rank, gaps @ np.linalg.pinv(spread) @ gaps)) if rank else 1.0


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p-values: at a threshold of alpha, the chance of even one false alarm is at most alpha (Holm 1979)."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = highest
    return adjusted


def benjamini_hochberg(ps: Sequence[float]) -> list[float]:
    """Adjusted p-values: at a threshold of alpha, at most that share of the alarms is expected to be false (1995)."""
    order = np.argsort(ps)[::-1]
    raised = np.asarray(ps)[order] * len(ps) / np.arange(len(ps), 0, -1)
    return np.minimum.accumulate(raised)[np.argsort(order)].tolist()


def means(scores: np.ndarray, videos: np.ndarray | None = None, seeds: str = "seeds") -> np.ndarray:
    """(S, Q) -> (RESAMPLES,) means over resampled seeds and videos (the pigeonhole bootstrap, arXiv:0712.1111).

    The draws are the same at each call, so that functions of several arms' means are paired by seed and by video;
    arms that name another stream of `seeds` draw those apart.
    """
    totals, asked = by_video(scores, videos)
    drawn = _counts(len(asked), "videos")
    by_seed = drawn @ totals.T / (drawn @ asked)[:, None]  # (RESAMPLES, S)
    return (_counts(len(scores), seeds) * by_seed).sum(1) / len(scores)


def by_video(scores: np.ndarray, videos: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(S, Q) -> (S, V) sums over each video's questions, and (V,) how many those are."""
    if videos is None:
        return scores, np.ones(scores.shape[1])
    return np.stack([np.bincount(videos, row) for row in scores]), np.bincount(videos).astype(float)


def count(scores: np.ndarray, videos: np.ndarray | None) -> int:
    """V, the number of videos."""
    return scores.shape[1] if videos is None else len(np.unique(videos))


def percentiles(value: float, drawn: np.ndarray, videos: int, confidence: float = CONFIDENCE) -> Interval:
    """The percentile interval of a bootstrap's draws, expanded, since it is too narrow for few videos.

    By as much as z falls short of Student's t for `videos` things, and n - 1 of n (Hesterberg 2014, arXiv:1411.5279).
    """
    n = max(2, videos)
    tail = ndtr(sqrt(n / (n - 1)) * stdtrit(n - 1, (1 - confidence) / 2))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(float(value), float(low), float(high))


@lru_cache(maxsize=16)
def _counts(n: int, stream: str) -> np.ndarray:
    """(RESAMPLES, n): how often each of n things is drawn. A stream's draws never change; all arms share them."""
    rng = np.random.default_rng([n, *stream.encode()])
    return np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(RESAMPLES)]).astype(np.float32)


def _variance(parts: np.ndarray) -> float:
    """Of the total of (n,) independent parts whose mean is 0."""
    return float(parts @ parts) * len(parts) / (len(parts) - 1)
