"""Honest numbers from few seeds and a few hundred questions (Miller 2024, arXiv:2411.00640).

Scores are matrices, everywhere here: (S, Q), S seeds by Q questions, 1 where the answer was right. Two arms that are
compared answered the same Q questions in the same order. Only numpy is imported: a report answers at once.
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


def wilson(right: int, asked: int, confidence: float = CONFIDENCE) -> Interval:
    """A proportion's score interval (Wilson 1927); unlike the textbook one it is sound near 0 and 1."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = right / asked
    centre = (share + z * z / (2 * asked)) / (1 + z * z / asked)
    half = z / (1 + z * z / asked) * sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    return Interval(share, centre - half, centre + half)


def accuracy(scores: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """(S, Q) scores of 0 or 1 -> their mean, with an interval for new seeds on new questions.

    One seed says nothing about seeds: Wilson's interval over the questions. So too where all scores are equal and
    resampling would see no doubt at all.
    """
    if len(scores) == 1 or scores.min() == scores.max():
        return wilson(round(scores.mean(0).sum()), scores.shape[1], confidence)
    return _percentiles(scores.mean(), _means(scores, "seeds"), confidence)


def difference(a: np.ndarray, b: np.ndarray, paired: bool, confidence: float = CONFIDENCE) -> Interval:
    """(S, Q) and (S', Q) scores -> mean of `a` less mean of `b`, with an interval.

    Questions are resampled for both arms together; so are seeds if the arms' seeds are `paired` row by row: the same
    prompts in the same order, the same flipped labels. Otherwise each arm's seeds are drawn apart.
    """
    if paired:
        return _percentiles((a - b).mean(), _means(a - b, "seeds"), confidence)
    return _percentiles(a.mean() - b.mean(), _means(a, "seeds") - _means(b, "other seeds"), confidence)


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided exact p that (S, Q) and (S', Q) scores differ by chance alone, on these questions.

    With one seed each, this is the exact McNemar test: of b + c questions on which the arms disagree, each goes either
    way with probability 1/2. Over several seeds the disagreements on one question are not independent, so a question
    counts once, with the difference of its means over seeds, and this difference has either sign with probability 1/2:
    the paired permutation test, of which McNemar's is the case of differences -1, 0 and 1. The null distribution is
    computed, not sampled. It takes the trained seeds as given; doubt about seeds is in `difference`.
    """
    gaps = np.rint(a.sum(0) * len(b) - b.sum(0) * len(a)).astype(int)  # (Q,), in units of 1 / (S S')
    sizes = abs(gaps[gaps != 0])
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


def _means(scores: np.ndarray, seeds: str) -> np.ndarray:
    """(S, Q) -> (RESAMPLES,) means over resampled seeds and questions (the pigeonhole bootstrap, arXiv:0712.1111)."""
    rows, questions = scores.shape
    by_seed = _counts(questions, "questions") @ scores.T  # (RESAMPLES, S)
    return (_counts(rows, seeds) * by_seed).sum(1) / scores.size


@lru_cache(maxsize=16)
def _counts(n: int, stream: str) -> np.ndarray:
    """(RESAMPLES, n): how often each of n things is drawn. A stream's draws never change; all arms share them."""
    rng = np.random.default_rng([n, *stream.encode()])
    return np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(RESAMPLES)]).astype(np.float32)


def _percentiles(value: float, means: np.ndarray, confidence: float) -> Interval:
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(value), float(low), float(high))
