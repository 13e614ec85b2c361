"""Verdicts on published counts, for which neither seeds nor single questions are known; and the shared constants."""

from __future__ import annotations

from math import inf

from scipy.special import ndtri

from rlvid.study.stats import Interval

ALPHA = 0.05  # error rate of a test, or of all tests of a report together
POWER = 0.8
EQUIVALENCE_MARGIN = 0.03  # smaller differences are called equivalent: about what 1,000 questions can detect


def classify_difference(difference: Interval, p: float, equivalence_margin: float = EQUIVALENCE_MARGIN) -> str:
    """Return the verdict: "better", "worse", "equivalent within 3" (points), or "undecided".

    It is a verdict on these runs: one run per arm shows nothing of other seeds. Better or worse needs both the test and
    the interval. Arms are equivalent if the interval lies within the margin: two one-sided tests (Schuirmann 1987),
    each at half of 1 - the confidence.
    """
    if p < ALPHA and not difference.low <= 0 <= difference.high:
        return "better" if difference.value > 0 else "worse"
    if -equivalence_margin < difference.low <= difference.high < equivalence_margin:
        return f"equivalent within {100 * equivalence_margin:g}"
    return "undecided"


def needed_questions(correct: int, total: int, other_correct: int, other_total: int, alpha: float = ALPHA) -> float:
    """Return the factor by which both question counts must grow for the difference to be detected with 80 % power."""
    share, other_share = correct / total, other_correct / other_total
    variance = share * (1 - share) / total + other_share * (1 - other_share) / other_total
    allowed = ((share - other_share) / _standard_errors(alpha)) ** 2
    return _ratio(variance, allowed)


def _standard_errors(alpha: float) -> float:
    """Return how many standard errors a true difference must be to be detected with 80 % power."""
    return float(ndtri(1 - alpha / 2) + ndtri(POWER))


def _ratio(variance: float, allowed: float) -> float:
    return variance / allowed if allowed > 0 else inf
