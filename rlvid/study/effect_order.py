"""Whether effects keep their order in another setting, such as a larger model: a rank correlation.

A grid names pairs of effects, each the endpoint of an arm less that of another one: the same two arms in two settings.
Spearman's correlation between the effects in the one and in the other setting says whether what is better in the first
is better in the second. It is 1 if the order is the same, and about 0 if the first says nothing of the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from rich.table import Table
from rich.text import Text

from rlvid.study.contrasts import Weights, combine, difference
from rlvid.study.seed_model import ALL_LEVELS, SeedModel
from rlvid.study.stats import Interval
from rlvid.study.study import Study

Effects = tuple[str, str, str, str]  # arm, what it is compared with; the same two arms in the other setting

DRAWS = 10_000
MOST_EXACT = 8  # effects, of which all orders are tried for the p-value; of more, DRAWS random ones are


@dataclass(frozen=True)
class EffectOrderRow:
    """One pair of effects on all levels, shares, and what all pairs together show; the latter is in every row."""

    a: str
    a_other: str
    effect_a: float  # the endpoint of `a` less that of `a_other`
    b: str
    b_other: str
    effect_b: float
    rank_correlation: Interval  # Spearman's, of all pairs; its ends hold 95 % of draws and are no confidence interval
    p: float  # of as large a correlation if the effects of one setting said nothing of the order in the other


def effect_order_rows(study: Study, model: SeedModel | None) -> list[EffectOrderRow]:
    """Return a row for each of the study's pairs of effects whose arms have finished runs; [] with fewer than three."""
    if model is None:
        return []
    done = [pair for pair in study.effect_order if set(pair) <= model.cells.keys()]
    if len(done) < 3:
        return []
    first = [difference(a, a_other) for a, a_other, _, _ in done]
    second = [difference(b, b_other) for _, _, b, b_other in done]
    here, there = _estimates(model, first), _estimates(model, second)
    correlation = rank_correlation(here, _covariance(model, first), there, _covariance(model, second))
    p = permutation_p(here, there)
    return [
        EffectOrderRow(a, a_other, effect_a, b, b_other, effect_b, correlation, p)
        for (a, a_other, b, b_other), effect_a, effect_b in zip(done, here.tolist(), there.tolist(), strict=True)
    ]


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(..., K) and (..., K) -> (...) Spearman's rank correlations; 0 where all values of one are equal.

    >>> spearman(np.array([0.1, 0.2, 0.4]), np.array([1.0, 3.0, 2.0])).item()
    0.5
    """
    from scipy.stats import rankdata  # takes a second: not before there is an order to rank

    a, b = (rankdata(z, axis=-1) - (z.shape[-1] + 1) / 2 for z in (x, y))
    scale = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return np.divide((a * b).sum(-1), scale, out=np.zeros_like(scale), where=scale > 0)


def rank_correlation(
    here: np.ndarray, here_covariance: np.ndarray, there: np.ndarray, there_covariance: np.ndarray
) -> Interval:
    """Spearman's correlation of two vectors of K effects, and the middle 95 % of its draws.

    Effects are drawn around the estimates, normally with their covariance (K, K), the two settings independently. This
    is no confidence interval: the estimates have noise already and draws add it again, which brings them nearer to 0.
    Where six effects had the same order in both settings and lay one standard error apart, the upper end reached the
    true correlation, 1, in 33 % of simulations (60, 2026-11-29).
    """
    rng = np.random.default_rng(0)
    draws = [
        rng.multivariate_normal(mean, covariance, size=DRAWS, method="eigh")
        for mean, covariance in ((here, here_covariance), (there, there_covariance))
    ]
    low, high = np.quantile(spearman(*draws), [0.025, 0.975])
    return Interval(float(spearman(here, there)), float(low), float(high))


def permutation_p(here: np.ndarray, there: np.ndarray) -> float:
    """One-sided p-value of Spearman's correlation: the share of orders of `there` with at least as large a one.

    With K effects up to MOST_EXACT all K! orders are tried, so it is at least 1 / K!.
    """
    count = len(there)
    if count <= MOST_EXACT:
        orders = np.array(list(permutations(range(count))))
    else:
        rng = np.random.default_rng(0)
        orders = np.array([np.arange(count), *(rng.permutation(count) for _ in range(DRAWS - 1))])
    shuffled = spearman(np.broadcast_to(here, orders.shape), there[orders])
    return float((shuffled >= spearman(here, there) - 1e-9).mean())


def effect_order_section(rows: Sequence[EffectOrderRow], endpoint: str) -> list[Table | Text]:
    """Return a table of the effects in both settings, and words about their rank correlation."""
    table = Table("effect", "points", "the same elsewhere", "points", box=None)
    for row in sorted(rows, key=lambda row: -row.effect_a):
        names = (Text(f"{arm} less {other}") for arm, other in ((row.a, row.a_other), (row.b, row.b_other)))
        points = (f"{100 * effect:+.1f}" for effect in (row.effect_a, row.effect_b))
        table.add_row(*(cell for pair in zip(names, points, strict=True) for cell in pair))
    correlation, count = rows[0].rank_correlation, len(rows)
    words = (
        f"Rank correlation (Spearman) of the {count} effects, {endpoint} on all levels: {correlation.value:+.2f}, "
        f"95 % of draws around the estimates {correlation.low:+.2f} to {correlation.high:+.2f}; one-sided p over "
        f"{'all' if count <= MOST_EXACT else 'random'} orders {rows[0].p:.3f}. It speaks of these arms and of these "
        "two settings."
    )
    return [Text("Do effects keep their order elsewhere?", "bold"), table, Text(words, style="dim")]


def _estimates(model: SeedModel, contrasts: Sequence[Weights]) -> np.ndarray:
    return np.array([model.contrast(weights, ALL_LEVELS).difference for weights in contrasts])


def _covariance(model: SeedModel, contrasts: Sequence[Weights]) -> np.ndarray:
    """(K, K) covariance of the estimates, from the variances of pairwise sums: arms that they share correlate them."""

    def variance(*parts: tuple[float, Weights]) -> float:
        weights = {arm: weight for arm, weight in combine(*parts).items() if weight}
        return model.contrast(weights, ALL_LEVELS).variance if weights else 0.0

    return np.array(
        [[(variance((1, u), (1, v)) - variance((1, u), (-1, v))) / 4 for v in contrasts] for u in contrasts]
    )
