"""Statistics of rewards over groups of replies. Intervals resample groups, since replies to one question are alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 200
PERMUTATIONS = 20_000
Array = np.ndarray


def flat(column: Sequence[Sequence[float | None]]) -> Array:
    """Return a column as one array, NaN where a reward does not apply."""
    return np.array([np.nan if value is None else value for row in column for value in row], float)


def correlation(a: Array, b: Array) -> float | None:
    """Return Pearson's correlation where both are known; None where either does not vary."""
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known], b[known]
    if len(a) < 3 or np.ptp(a) < 1e-12 or np.ptp(b) < 1e-12:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def ranks(values: Array) -> Array:
    """Return ranks from 1, ties sharing their mean; NaN where a value is unknown.

    >>> ranks(np.array([0.5, 2.0, np.nan, 0.5])).tolist()
    [1.5, 3.0, nan, 1.5]
    """
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = counts.cumsum() - (counts - 1) / 2
    return np.where(np.isnan(values), np.nan, mean_rank[index])


def rank_correlation(a: Array, b: Array) -> float | None:
    """Return Spearman's correlation where both are known; None where either does not vary."""
    known = ~(np.isnan(a) | np.isnan(b))
    return correlation(ranks(a[known]), ranks(b[known]))


def correlation_within(a: Array, b: Array, classes: Array) -> float | None:
    """Return the correlation of what is left of two arrays after the means of their classes are subtracted."""
    known = ~(np.isnan(a) | np.isnan(b) | np.isnan(classes))
    a, b, classes = a[known].copy(), b[known].copy(), classes[known]
    for one in np.unique(classes):
        chosen = classes == one
        a[chosen] -= a[chosen].mean()
        b[chosen] -= b[chosen].mean()
    return correlation(a, b)


def auroc(values: Array, right: Array) -> float | None:
    """Return the probability that a right reply has a higher value than a wrong one, ties counting half.

    >>> auroc(np.array([1.0, 0.0, 0.5, 0.5]), np.array([1.0, 0.0, 1.0, 0.0]))
    0.875
    """
    known = ~(np.isnan(values) | np.isnan(right))
    values, good = values[known], right[known] > 0.5
    if not good.any() or good.all():
        return None
    order = np.sort(values[~good])
    below, up_to = (np.searchsorted(order, values[good], side) for side in ("left", "right"))
    return float((below + up_to).mean() / 2 / len(order))


def interval(statistic: Callable[[Array], float | None], groups: int) -> tuple[float, float] | None:
    """Return a 95 % interval of a statistic of group indices, from a bootstrap over groups; None if it has no value."""
    rng = np.random.default_rng(0)
    values = [statistic(rng.integers(groups, size=groups)) for _ in range(RESAMPLES)]
    known = [value for value in values if value is not None]
    if len(known) < RESAMPLES / 2:
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def permutation_p_values(samples: Sequence[Array], base: Array) -> list[float]:
    """Return for each sample the one-sided p-value of a mean above that of `base`, by permuting the two.

    All samples of one size share their permutations.
    """
    p_values, draws = [], {}
    for sample in samples:
        both = np.concatenate([sample, base])
        if len(both) not in draws:
            rng = np.random.default_rng(0)
            draws[len(both)] = rng.permuted(np.tile(np.arange(len(both)), (PERMUTATIONS, 1)), axis=1)
        sums = both[draws[len(both)][:, : len(sample)]].sum(1)
        p_values.append(float((1 + (sums >= sample.sum() - 1e-9).sum()) / (1 + PERMUTATIONS)))
    return p_values


def sign_p_value(differences: Array) -> float:
    """Return the one-sided p-value of more positive than negative differences, by the binomial distribution."""
    from math import comb

    up, down = int((differences > 1e-9).sum()), int((differences < -1e-9).sum())
    n = up + down
    return sum(comb(n, k) for k in range(up, n + 1)) / 2**n if n else 1.0
