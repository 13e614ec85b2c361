"""Grids that add seeds until their comparisons are decided, with error rates that hold at all looks together.

After each look at the data every comparison that is still open may spend a part of its error rate, the more the more
information there is (Lan and DeMets 1983, doi:10.1093/biomet/70.3.659). The estimates after S and S' > S seeds of the
same runs have the covariance Var(S'), so that they move like Brownian motion observed at their share of the final
information. A look's `level` gives a repeated confidence interval (Jennison and Turnbull 1989): all looks' intervals
hold together with the planned probability, and verdicts are read from them.

Decisions are about "all levels"; single levels are estimated once, at the end. Everything here is computed from the
scores and from the saved looks alone, so that a grid that was killed resumes where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from rlvid.study.contrasts import ONE_SEED, SHARE, UNDECIDED, Family, Result, Weights, verdict
from rlvid.study.power import ALPHA
from rlvid.study.seed_model import Contrast, SeedModel

LOOKS = (2, 3, 4, 5, 6, 8)  # seeds of each open arm
HOPELESS = 0.2  # stop where a verdict at the last look is less likely than this
HOPELESS_WORDS = "undecided: {max_seeds} seeds will not tell"  # files before 2026-11-29 say "more seeds"
_LAST_INTERIM = 0.98  # a look before the last one has at most this share of the information
_LEAST_STEP = 0.005  # looks closer than this in information spend nothing
_NODES = 161

Spending = Callable[[float, float], float]


def obrien_fleming(alpha: float, t: float) -> float:
    """Error spent until the share `t` of the information, after O'Brien and Fleming: hardly any early on.

    2 (1 - Phi(z / sqrt(t))) with z the two-sided quantile of alpha. (ldbounds for R spends alpha / 2 on each side by
    this formula, which leaves a little less for early looks.)
    """
    return float(2 * ndtr(ndtri(alpha / 2) / sqrt(t))) if t > 0 else 0.0


def linear(alpha: float, t: float) -> float:
    """Error spent in proportion to the information, close to Pocock's boundary: early looks count as much as late."""
    return alpha * t


SPENDING: Mapping[str, Spending] = {"obrien_fleming": obrien_fleming, "linear": linear}


class Boundary:
    """A two-sided group-sequential boundary: at which level to test at each look.

    Under the null hypothesis z at information t is B(t) / sqrt(t), B a Brownian motion. The density of B over paths
    that have not crossed is kept at Gauss-Legendre nodes between the bounds of the last look.
    """

    def __init__(self, alpha: float, spending: Spending = obrien_fleming) -> None:
        self.alpha, self.spending = alpha, spending
        self.t, self.spent = 0.0, 0.0
        self._nodes, self._mass = np.zeros(1), np.ones(1)  # positions of B at t, and the probability at each

    def level(self, t: float) -> float:
        """Two-sided level of a test at information `t`; 0 if no error is left to spend. Changes nothing."""
        due = self.spending(self.alpha, min(t, 1.0)) - self.spent
        if t - self.t < _LEAST_STEP or due <= 1e-15:
            return 0.0
        low, high = 0.0, -float(ndtri(due / 4)) + 1.0  # z
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self._crossing(t, middle) > due else (low, middle)
        return float(2 * ndtr(-high))

    def advance(self, t: float, level: float | None = None) -> float:
        """Level of the test at information `t`; further looks allow for it having been made.

        `level` is given where the look was made before and its level is known.
        """
        level = self.level(t) if level is None else level
        if level > 0:
            bound = -float(ndtri(level / 2)) * sqrt(t)
            x, weights = _gauss_legendre()
            nodes, step = bound * x, sqrt(t - self.t)
            kernel = np.exp(-(((nodes[:, None] - self._nodes) / step) ** 2) / 2) / (step * sqrt(2 * np.pi))
            self._nodes, self._mass = nodes, kernel @ self._mass * bound * weights
            self.t, self.spent = t, self.spending(self.alpha, min(t, 1.0))
        return level

    def _crossing(self, t: float, z: float) -> float:
        """Probability that no look so far crossed and |B(t)| > z sqrt(t)."""
        bound, step = z * sqrt(t), sqrt(t - self.t)
        tails = ndtr((-bound - self._nodes) / step) + ndtr((self._nodes - bound) / step)
        return float(tails @ self._mass)


@lru_cache(maxsize=1)
def _gauss_legendre() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss-Legendre quadrature on [-1, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return nodes, weights


@dataclass(frozen=True)
class Look:
    """One look at one comparison; all fields are JSON values."""

    seeds: int
    t: float  # share of the information that `max_seeds` would give
    spent: float  # error spent until now
    level: float  # of the test at this look; 0 where there is nothing to spend yet
    difference: float
    low: float | None  # the repeated interval; None is infinite
    high: float | None
    verdict: str
    stop: bool  # no more seeds for this comparison
    p: float | None = None  # two-sided, not adjusted: below `level` where the interval excludes 0. None: one seed


@dataclass
class AdaptiveComparison:
    """A contrast under way; append looks with `look`."""

    weights: Weights
    alpha: float
    margin: float | None = None
    max_seeds: int = LOOKS[-1]
    spending: str = "obrien_fleming"
    looks: list[Look] = field(default_factory=list)

    @property
    def stopped(self) -> bool:
        """Whether it needs no more seeds; its last verdict is final then."""
        return bool(self.looks) and self.looks[-1].stop

    @property
    def verdict(self) -> str:
        """The verdict of the last look."""
        return self.looks[-1].verdict if self.looks else UNDECIDED

    def look(self, model: SeedModel, seeds: int) -> Look:
        """Test after so many seeds of every open arm, and append the look; ValueError once it has stopped."""
        if self.stopped or (self.looks and seeds <= self.looks[-1].seeds):
            raise ValueError(f"no look after {seeds} seeds: it stopped, or there was one after as many")
        last = seeds >= self.max_seeds
        now, final = model.contrast(self.weights), self._final(model)
        boundary = self._boundary()
        t = 1.0 if last else max(boundary.t, min(final.variance / now.variance, _LAST_INTERIM))
        level = 0.0 if now.one_seed else boundary.advance(t)
        words = ONE_SEED if now.one_seed else verdict(now, level, self.margin)
        hopeless = words == UNDECIDED and not last and self._chance(boundary, now, final) < HOPELESS
        low, high = now.interval(level) if level else (None, None)
        words = HOPELESS_WORDS.format(max_seeds=self.max_seeds) if hopeless else words
        stop = last or hopeless or words not in (UNDECIDED, ONE_SEED)
        p = None if now.one_seed else now.p_value()
        look = Look(seeds, t, boundary.spent, level, now.difference, low, high, words, stop, p)
        self.looks.append(look)
        return look

    def _final(self, model: SeedModel) -> Contrast:
        """The contrast as if all its arms had `max_seeds`; of arms with the same runs, the one that counts."""
        arms = model.by_runs(self.weights) or self.weights
        return model.contrast(self.weights, seeds={a: max(model.seeds(a), self.max_seeds) for a in arms})

    def _boundary(self) -> Boundary:
        """The boundary after the looks so far."""
        boundary = Boundary(self.alpha, SPENDING[self.spending])
        for look in self.looks:
            boundary.advance(look.t, look.level)
        return boundary

    def _chance(self, boundary: Boundary, now: Contrast, final: Contrast) -> float:
        """Probability of a verdict at the last look, with a flat prior for the true difference.

        Averaged over the possible variances: with few seeds the mean variance is dominated by the large ones.
        """
        level = boundary.level(1.0)
        if not level:
            return 0.0
        ratio = min(final.variance / now.variance, 1 - 1e-9)
        half = -float(ndtri(level / 2)) * np.sqrt(now.variances * ratio)  # (M,) of the last interval
        spread = np.sqrt(now.variances * (1 - ratio))  # of the last estimate, given the present one
        decided = ndtr((now.difference - half) / spread) + ndtr((-now.difference - half) / spread)
        if self.margin:
            room = np.maximum(self.margin - half, 0)
            decided += ndtr((room - now.difference) / spread) - ndtr((-room - now.difference) / spread)
        return float(now.chances @ decided)


@dataclass
class AdaptiveGrid:
    """The comparisons of a grid that adds seeds until they are decided.

    A `share` of alpha is divided equally between the comparisons on all levels, which decide when to stop; the rest is
    for the single levels, at the end; where there is one level only, give a share of 1. Stopping where more seeds would
    not tell is not counted on (non-binding): the error rate holds if a grid goes on nevertheless.
    """

    contrasts: Mapping[str, Weights]
    margin: float | None = None
    alpha: float = ALPHA
    share: float = SHARE
    max_seeds: int = LOOKS[-1]
    spending: str = "obrien_fleming"
    plan: Mapping[str, Any] = field(default_factory=dict)  # what else a grid must not change; {}: saved before it was
    comparisons: dict[str, AdaptiveComparison] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.comparisons:
            alpha = self.share * self.alpha / max(1, len(self.contrasts))
            self.comparisons = {
                name: AdaptiveComparison(weights, alpha, self.margin, self.max_seeds, self.spending)
                for name, weights in self.contrasts.items()
            }

    def schedule(self) -> list[int]:
        """Numbers of seeds after which to look."""
        return [seeds for seeds in LOOKS if seeds < self.max_seeds] + [self.max_seeds]

    def look(self, model: SeedModel, seeds: int) -> dict[str, Look]:
        """Look at every open comparison; `seeds` is the number of runs of every open arm."""
        return {name: c.look(model, seeds) for name, c in self.comparisons.items() if not c.stopped}

    def open_arms(self, unseeded: Sequence[str] = ()) -> list[str]:
        """Arms that need more seeds: those with an open comparison."""
        arms = dict.fromkeys(a for c in self.comparisons.values() if not c.stopped for a in c.weights)
        return [arm for arm in arms if arm not in set(unseeded)]

    def next_seeds(self) -> int | None:
        """Number of seeds of the next look, None once all comparisons have stopped."""
        made = [c.looks[-1].seeds if c.looks else 0 for c in self.comparisons.values() if not c.stopped]
        return min((seeds for seeds in self.schedule() if made and seeds > max(made)), default=None)

    def single_levels(self, model: SeedModel) -> list[Result]:
        """The single levels' results at the end, as members of their part of the family."""
        family = Family(model, self.contrasts, self.margin, self.alpha, self.share)
        return [result for result in family.results() if result.level in model.levels]

    def to_json(self) -> dict[str, Any]:
        """Settings and looks as JSON values; `from_json` reads them."""
        return {
            **{key: getattr(self, key) for key in ("margin", "alpha", "share", "max_seeds", "spending")},
            "contrasts": {name: dict(weights) for name, weights in self.contrasts.items()},
            **({"plan": dict(self.plan)} if self.plan else {}),
            "looks": {name: [asdict(look) for look in c.looks] for name, c in self.comparisons.items()},
        }

    @staticmethod
    def from_json(state: Mapping[str, Any]) -> AdaptiveGrid:
        """A grid as `to_json` saved it."""
        grid = AdaptiveGrid(**{key: value for key, value in state.items() if key != "looks"})
        for name, looks in state["looks"].items():
            grid.comparisons[name].looks = [Look(**look) for look in looks]
        return grid
