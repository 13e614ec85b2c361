"""Honest numbers from few seeds and a few hundred questions (Miller 2024, arXiv:2411.00640).

Scores are matrices, everywhere here: (S, Q), S seeds by Q questions, 1 where the answer was right. Two arms that are
compared answered the same Q questions in the same order. `videos`, (Q,), numbers each question's video from 0:
questions about one video share its luck, so that videos are drawn, flipped and counted whole; None gives each question
its own. Only numpy is imported: a report answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from statistics import NormalDist

import numpy as np

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
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = right / asked
    centre = (share + z * z / (2 * asked)) / (1 + z * z / asked)
    half = z / (1 + z * z / asked) * sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    return Interval(share, centre - half, centre + half)


def design_effect(scores: np.ndarray, videos: np.ndarray | None = None) -> float:
    """How many times the variance of (S, Q) scores' mean is what it would be, were every question about another video.

    The ratio of the clustered to the plain variance, over new questions, of the mean over seeds; 1 without any spread.
    """
    gaps = scores.mean(0) - scores.mean()
    totals, _ = by_video(gaps[None], videos)
    spread = _unbiased(gaps)
    return _unbiased(totals[0]) / spread if spread and totals.size > 1 else 1.0


def accuracy(scores: np.ndarray, videos: np.ndarray | None = None, confidence: float = CONFIDENCE) -> Interval:
    """(S, Q) scores of 0 or 1 -> their mean, with an interval for new seeds on new videos' questions.

    One seed says nothing about seeds: Wilson's interval over the questions, as if there were fewer of them by the
    design effect. So too where all scores are equal and resampling would see no doubt at all.
    """
    if len(scores) == 1 or scores.min() == scores.max():
        asked = scores.shape[1] / max(1.0, design_effect(scores, videos))
        return wilson(scores.mean() * asked, asked, confidence)
    return percentiles(scores.mean(), means(scores, videos), confidence)


def difference(
    a: np.ndarray, b: np.ndarray, paired: bool, videos: np.ndarray | None = None, confidence: float = CONFIDENCE
) -> Interval:
    """(S, Q) and (S', Q) scores -> mean of `a` less mean of `b`, with an interval.

    Videos are resampled for both arms together; so are seeds if the arms' seeds are `paired` row by row: the same
    prompts in the same order, the same flipped labels. Otherwise each arm's seeds are drawn apart.
    """
    if paired:
        return percentiles((a - b).mean(), means(a - b, videos), confidence)
    drawn = means(a, videos) - means(b, videos, "other seeds")
    return percentiles(a.mean() - b.mean(), drawn, confidence)


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


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p-values: at a threshold of alpha, the chance of even one false alarm is at most alpha (Holm 1979)."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = highest
    return adjusted


def verdict(difference: Interval, p: float, alpha: float = 1 - CONFIDENCE) -> str:
    """In words, what the data supports; both must say so, the test, which has the questions right, and the interval.

    The test alone would be too sure: of two equal arms with two seeds each that scatter by 3 points, on 300 questions,
    it tells 16 % apart, and both together 5 % (simulated; see the tests).
    """
    if p >= alpha or difference.low <= 0 <= difference.high:
        return "not distinguishable"
    return "better" if difference.value > 0 else "worse"


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


def percentiles(value: float, drawn: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """The percentile interval of a bootstrap's draws."""
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(value), float(low), float(high))


@lru_cache(maxsize=16)
def _counts(n: int, stream: str) -> np.ndarray:
    """(RESAMPLES, n): how often each of n things is drawn. A stream's draws never change; all arms share them."""
    rng = np.random.default_rng([n, *stream.encode()])
    return np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(RESAMPLES)]).astype(np.float32)


def _unbiased(sums: np.ndarray) -> float:
    """The variance of a total of (n,) independent parts whose mean is 0."""
    return float(sums @ sums) * sums.size / max(1, sums.size - 1)
