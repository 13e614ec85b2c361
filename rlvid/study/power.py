"""What the data can tell: the verdict, the least difference that so many questions show, and what it would take."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, sqrt

import numpy as np
from scipy.special import ndtri

from rlvid.study.stats import CONFIDENCE, Interval, by_video

ALPHA = 1 - CONFIDENCE
POWER = 0.8
EQUIVALENCE_MARGIN = (
    0.03  # differences smaller than this are called equivalent: about what a level of 1,000 questions can show
)


def verdict(
    difference: Interval, p: float, alpha: float = ALPHA, equivalence_margin: float = EQUIVALENCE_MARGIN
) -> str:
    """In words, what the data supports: better, worse, equivalent within so many points, or not distinguishable.

    Better or worse needs both the test, which has the questions right, and the interval. The test alone would be too
    sure: of two equal arms with two seeds each that scatter by 3 points, on 300 questions, it tells 16 % apart, and
    both together 5 % (simulated; see the tests). Equivalent are arms whose interval lies within the margin: two
    one-sided tests (Schuirmann 1987), each at half of 1 - the interval's confidence.
    """
    if p < alpha and not difference.low <= 0 <= difference.high:
        return "better" if difference.value > 0 else "worse"
    if -equivalence_margin < difference.low <= difference.high < equivalence_margin:
        return f"equivalent equivalence_margin {100 * equivalence_margin:g}"
    return "not distinguishable"


def detectable(questions: int, discordance: float, design: float = 1.0, alpha: float = ALPHA) -> float:
    """The least true difference that two runs show with 80 % power, if they disagree on a share `discordance`.

    (z(1 - alpha / 2) + z(power)) sqrt(design discordance / questions), Miller's formula (2024, arXiv:2411.00640) for
    paired right and wrong answers; the design effect is that of the paired differences.
    """
    return _sigmas(alpha) * sqrt(design * discordance / questions)


@dataclass(frozen=True)
class Needed:
    """What it would take to see a difference as large as the one observed, with 80 % power: one of the two.

    Infinite where no number would do, because the doubt about the others alone is too great.
    """

    questions: float  # so many times those asked, with the same seeds
    seeds: float  # with the same questions; nan where one seed says nothing about seeds


def needed(a: np.ndarray, b: np.ndarray, paired: bool, videos: np.ndarray | None, alpha: float = ALPHA) -> Needed:
    """For (S, Q) and (S', Q) scores: from the variances between seeds, between videos, and of both together.

    These are a two-way analysis of variance of `a` - `b`; of `b`, unless its seeds are `paired`, the mean is taken as
    given. The number of videos is meant to grow with that of questions. As all power that is computed from an observed
    difference, it is as rough as that difference.
    """
    gaps = a - (b if paired else b.mean(0))
    totals, asked = by_video(gaps - gaps.mean(), videos)
    seeds, n = totals.shape
    cells = totals * n / asked.sum()  # (S, V), of mean 0, whose mean over videos is a seed's mean
    rows, columns = cells.mean(1), cells.mean(0)
    rest = ((cells - rows[:, None] - columns) ** 2).sum() / max(1, (seeds - 1) * (n - 1))
    between_seeds = max(0.0, n * (rows @ rows) / max(1, seeds - 1) - rest) / n
    between_videos = max(0.0, seeds * (columns @ columns) / max(1, n - 1) - rest) / seeds
    allowed = (gaps.mean() / _sigmas(alpha)) ** 2
    questions = _ratio((between_videos + rest / seeds) / n, allowed - between_seeds / seeds)
    more = _ratio(between_seeds + rest / n, allowed - between_videos / n) if seeds > 1 else float("nan")
    return Needed(questions, more if not more < inf else ceil(more))


def needed_of_shares(right: int, asked: int, other: int, other_asked: int, alpha: float = ALPHA) -> Needed:
    """For two proportions of which nobody kept which questions were right: of questions only."""
    share, reference = right / asked, other / other_asked
    doubt = share * (1 - share) / asked + reference * (1 - reference) / other_asked
    return Needed(_ratio(doubt, ((share - reference) / _sigmas(alpha)) ** 2), float("nan"))


def _sigmas(alpha: float) -> float:
    """How many standard errors a true difference must be."""
    return float(ndtri(1 - alpha / 2) + ndtri(POWER))


def _ratio(doubt: float, allowed: float) -> float:
    return doubt / allowed if allowed > 0 else inf
