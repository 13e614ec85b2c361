"""The score interval of a proportion. `scipy.stats` has it too, but takes half a second to import."""

from __future__ import annotations

from math import sqrt

from scipy.special import ndtri


def wilson(correct: float, total: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the ends of the score interval of correct / total (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    >>> low, high = wilson(52, 100)
    >>> round(low, 3), round(high, 3)
    (0.423, 0.615)
    """
    z = float(ndtri((1 + confidence) / 2))
    share = correct / total
    center = (share + z * z / (2 * total)) / (1 + z * z / total)
    half_width = z / (1 + z * z / total) * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return center - half_width, center + half_width
