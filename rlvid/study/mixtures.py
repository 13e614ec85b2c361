"""Distributions of a variance on a few atoms: what `seed_model` adds up to that of a contrast."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import chdtri

_BINS = 160  # atoms to which the distribution of a variance is merged
_STUDENT_NODES = 41


@lru_cache(maxsize=1024)
def student(freedom: float) -> tuple[np.ndarray, np.ndarray]:
    """Values and probabilities of freedom / chi-square: normals with these variances mix to Student's t."""
    low, high = np.log(chdtri(freedom, 1 - 1e-9)), np.log(chdtri(freedom, 1e-9))
    u = np.linspace(low, high, _STUDENT_NODES)
    logs = freedom / 2 * u - np.exp(u) / 2
    chances = np.exp(logs - logs.max())
    return freedom / np.exp(u), chances / chances.sum()


def merge(values: np.ndarray, chances: np.ndarray, small: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Merge values that fall into the same of `_BINS` equal bins of log(value + small), keeping the mean."""
    logs = np.log(values.ravel() + small)
    low, high = float(logs.min()), float(logs.max())
    bins = np.minimum((logs - low) / max(high - low, 1e-12) * _BINS, _BINS - 1).astype(int)
    total = np.bincount(bins, chances.ravel(), _BINS)
    sums = np.bincount(bins, (chances * values).ravel(), _BINS)
    kept = total > 1e-15
    return sums[kept] / total[kept], total[kept]
