"""Verdicts on differences, the smallest difference that the data can detect, and how much data would be needed."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, isfinite, nan, sqrt

import numpy as np
from scipy.special import ndtri

from rlvid.study.stats import CONFIDENCE, Interval, sum_by_video

ALPHA = 1 - CONFIDENCE
POWER = 0.8
EQUIVALENCE_MARGIN = 0.03  # smaller differences are called equivalent: about what 1,000 questions can detect


def classify_difference(
    difference: Interval, p: float, alpha: float = ALPHA, equivalence_margin: float = EQUIVALENCE_MARGIN
) -> str:
    """Return the verdict: "better", "worse", "equivalent within 3" (points), or "not distinguishable".

    Better or worse needs both the test, which is conditional on the trained seeds, and the interval. The test alone
    rejects too often: for two equal arms with two seeds each that scatter by 3 points, on 300 questions, it gives a
    false verdict in 16 % of cases, and both together in 5 % (simulated; see the tests). Arms are equivalent if the
    interval lies within the margin: two one-sided tests (Schuirmann 1987), each at half of 1 - the confidence.
    """
    if p < alpha and not difference.low <= 0 <= difference.high:
        return "better" if difference.value > 0 else "worse"
    if -equivalence_margin < difference.low <= difference.high < equivalence_margin:
        return f"equivalent within {100 * equivalence_margin:g}"
    return "not distinguishable"


def detectable_difference(
    questions: int, discordance: float, design_effect: float = 1.0, alpha: float = ALPHA
) -> float:
    """Return the smallest true difference that two runs show with 80 % power.

    (z(1 - alpha / 2) + z(power)) sqrt(design_effect discordance / questions): Miller's formula (2024, arXiv:2411.00640)
    for paired right and wrong answers.

    Args:
        questions: their number.
        discordance: the share of questions on which exactly one of the two runs is right.
        design_effect: of the paired differences.
        alpha: error rate of the two-sided test.
    """
    return _standard_errors(alpha) * sqrt(design_effect * discordance / questions)


@dataclass(frozen=True)
class Needed:
    """What it would take to detect a difference as large as the observed one with 80 % power: one of the two.

    Infinite if no number is enough, because the uncertainty about the other one alone is too large.
    """

    questions: float  # as a multiple of the present questions, with the same seeds
    seeds: float  # their number, with the same questions; nan for one seed: their variance is not known


def needed_sample(
    a: np.ndarray, b: np.ndarray, seeds_paired: bool, videos: np.ndarray | None, alpha: float = ALPHA
) -> Needed:
    """Return what (S, Q) and (S', Q) scores would need, from the variances between seeds, between videos, and the rest.

    The variances are those of a two-way analysis of variance of a - b. If the seeds are not paired, the mean of b over
    seeds is taken as known. The number of videos is assumed to grow with that of questions. As any power that is
    computed from an observed difference, the result is as rough as that difference.
    """
    differences = a - (b if seeds_paired else b.mean(0))
    sums, sizes = sum_by_video(differences - differences.mean(), videos)
    seeds, n = sums.shape
    cells = sums * n / sizes.sum()  # (S, V), of mean 0; the mean of a row is the seed's mean difference

    # Two-way analysis of variance: cell = seed effect + video effect + rest.
    seed_means, video_means = cells.mean(1), cells.mean(0)
    residuals = cells - seed_means[:, None] - video_means
    rest = (residuals**2).sum() / max(1, (seeds - 1) * (n - 1))
    between_seeds = max(0.0, n * (seed_means @ seed_means) / max(1, seeds - 1) - rest) / n
    between_videos = max(0.0, seeds * (video_means @ video_means) / max(1, n - 1) - rest) / seeds

    # The variance of the mean difference at which it would be just large enough.
    allowed = (differences.mean() / _standard_errors(alpha)) ** 2
    questions = _ratio((between_videos + rest / seeds) / n, allowed - between_seeds / seeds)
    more_seeds = _ratio(between_seeds + rest / n, allowed - between_videos / n) if seeds > 1 else nan
    return Needed(questions, ceil(more_seeds) if isfinite(more_seeds) else more_seeds)


def needed_sample_of_proportions(
    correct: int, total: int, other_correct: int, other_total: int, alpha: float = ALPHA
) -> Needed:
    """Return what two unpaired proportions would need; only the number of questions can be computed."""
    share, other_share = correct / total, other_correct / other_total
    variance = share * (1 - share) / total + other_share * (1 - other_share) / other_total
    allowed = ((share - other_share) / _standard_errors(alpha)) ** 2
    return Needed(_ratio(variance, allowed), nan)


def _standard_errors(alpha: float) -> float:
    """Return how many standard errors a true difference must be to be detected with 80 % power."""
    return float(ndtri(1 - alpha / 2) + ndtri(POWER))


def _ratio(variance: float, allowed: float) -> float:
    return variance / allowed if allowed > 0 else inf
