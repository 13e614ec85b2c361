"""Families of contrasts with simultaneous intervals and verdicts, and builders for interactions, slopes and ratios.

A contrast is a mapping arm -> weight whose weights sum to 0: {"grpo": 1, "sft": -1} is the accuracy of grpo less that
of sft. `SeedModel.contrast` estimates one; `Family` estimates all that a grid names, at one error rate for all of them.
Accuracies, differences and margins are shares in [0, 1]; a margin is printed in points.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from scipy.special import ndtri

from rlvid.study.power import ALPHA
from rlvid.study.seed_model import ALL_LEVELS, Contrast, SeedModel

Weights = Mapping[str, float]
Point = tuple[str | Weights, float]  # an arm, or the mean of several as arm -> share, and its x

SHARE = 0.5  # of the error rate that goes to the primary endpoint, all levels together
UNDECIDED = "undecided"
ONE_SEED = "one seed: these runs only"
NO_LOOK = "no look yet"  # of an adaptive grid, whose first runs are not complete
NO_GAIN = "no gain to keep"
COST_WORDS = {"better": "costs more", "worse": "costs less"}  # of an interaction, whose sign is that of a cost
MOST_SEEDS = 100  # a plan that would need more seeds per arm than this is given up
MOST_QUESTIONS = 1000.0  # times the present questions, likewise


def verdict(contrast: Contrast, alpha: float = ALPHA, margin: float | None = None) -> str:
    """What the 1 - `alpha` interval shows, in words.

    "better" or "worse": it excludes 0. "equivalent within M": it lies inside of -margin .. margin. "undecided":
    neither. "one seed: these runs only": no arm of the grid has two seeds, so that nothing is known of other seeds.
    """
    if contrast.one_seed:
        return ONE_SEED
    if contrast.p_value() < alpha:
        return "better" if contrast.difference > 0 else "worse"
    if margin and abs(contrast.difference) < margin and max(map(contrast.p_value, (-margin, margin))) < alpha:
        return f"equivalent within {100 * margin:g}"
    return UNDECIDED


@dataclass(frozen=True, eq=False)
class Result:
    """One contrast on one level, as a member of its family."""

    name: str
    level: str
    difference: float
    interval: tuple[float, float]  # all of the family's hold together with 1 - alpha
    alone: tuple[float, float] | None  # the plain 95 % interval, as if this were the only contrast; None: at a look
    p: float | None  # adjusted for the family: below its alpha if and only if `interval` excludes 0. None: not saved
    verdict: str
    alpha: float  # the contrast's part of the family's error rate
    contrast: Contrast
    look: int | None = None  # seeds at the look of an adaptive grid that decided it; None: it is of all runs


@dataclass(frozen=True)
class Family:
    """Contrasts whose verdicts are all right together with probability 1 - `alpha`.

    A `share` of alpha is divided equally between the contrasts on all levels, the rest between all contrasts on single
    levels (Bonferroni; intervals and verdicts agree, and equivalence is inside of the same alpha). With one level there
    is only "all levels", and it gets all of alpha. Contrasts in `on_all_levels_only` have no single levels.
    """

    model: SeedModel
    contrasts: Mapping[str, Weights]
    margin: float | None = None  # differences smaller than this count as equivalent; None: nothing does
    alpha: float = ALPHA
    share: float = SHARE
    on_all_levels_only: Collection[str] = ()

    def places(self) -> list[tuple[str, str]]:
        """(contrast, level) of every member: first those on all levels, then on each level its arms have answered."""
        levels = self.model.levels if len(self.model.levels) > 1 else []
        divided = {n: w for n, w in self.contrasts.items() if n not in self.on_all_levels_only}
        single = [(n, p) for p in levels for n, w in divided.items() if p in self.model.shared_levels(_arms(w))]
        return [*((n, ALL_LEVELS) for n, w in self.contrasts.items() if self.model.shared_levels(_arms(w))), *single]

    def alphas(self) -> dict[tuple[str, str], float]:
        """Every member -> its part of the family's error rate alpha."""
        places = self.places()
        primary = sum(level == ALL_LEVELS for _, level in places)
        share = self.share if primary < len(places) else 1.0
        return {
            (name, level): self.alpha
            * (share / primary if level == ALL_LEVELS else (1 - share) / (len(places) - primary))
            for name, level in places
        }

    def results(self) -> list[Result]:
        """Every member's estimate, intervals, adjusted p-value and verdict."""
        found = []
        for (name, level), alpha in self.alphas().items():
            contrast = self.model.contrast(self.contrasts[name], level)
            p = min(1.0, contrast.p_value() * self.alpha / alpha) if alpha else 1.0
            intervals = contrast.interval(alpha), contrast.interval(ALPHA)
            words = verdict(contrast, alpha, self.margin)
            found.append(Result(name, level, contrast.difference, *intervals, p, words, alpha, contrast))
        return found


def combine(*parts: tuple[float, Weights]) -> dict[str, float]:
    """A weighted sum of contrasts; an arm in several of them gets the sum of its weights."""
    total: dict[str, float] = {}
    for factor, weights in parts:
        for arm, weight in weights.items():
            total[arm] = total.get(arm, 0.0) + factor * weight
    return total


def difference(arm: str, other: str) -> dict[str, float]:
    """Accuracy of `arm` less that of `other`."""
    return combine((1, {arm: 1}), (-1, {other: 1}))


def interaction(arm: str, arm_changed: str, other: str, other_changed: str) -> dict[str, float]:
    """How much more a change costs `arm` than `other`: (arm - arm_changed) - (other - other_changed)."""
    return combine((1, difference(arm, arm_changed)), (-1, difference(other, other_changed)))


def slope(points: Sequence[Point]) -> dict[str, float]:
    """Least-squares slope of accuracy over x; ValueError unless two x differ."""
    x = np.array([x for _, x in points], dtype=float)
    gaps = x - x.mean() if len(x) else x
    if not gaps.any():
        raise ValueError(f"a slope needs two different values, not {list(points)}")
    return combine(*((gap / (gaps @ gaps), _mean(arm)) for (arm, _), gap in zip(points, gaps, strict=True)))


def difference_of_slopes(points: Sequence[Point], others: Sequence[Point]) -> dict[str, float]:
    """Slope of one method's accuracy over x less that of another's; both may share arms."""
    return combine((1, slope(points)), (-1, slope(others)))


def keeps(arm: str, clean: str, base: str, kept: float = 0.8) -> dict[str, float]:
    """Positive if `arm` keeps more than `kept` of the gain of `clean` over `base`; see `one_sided`."""
    return combine((1, {arm: 1}), (-kept, {clean: 1}), (kept - 1, {base: 1}))


def one_sided(contrast: Contrast, alpha: float = ALPHA) -> str:
    """Whether a contrast is positive: "yes" or "no", each with error rate `alpha`, or "undecided".

    Only one of the two can be false, so that both together have that error rate too.
    """
    if contrast.one_seed:
        return ONE_SEED
    low, high = contrast.interval(2 * alpha)
    return "yes" if low > 0 else "no" if high < 0 else UNDECIDED


@dataclass(frozen=True)
class Ratio:
    """A ratio of contrasts with its confidence interval."""

    value: float
    low: float
    high: float


def ratio(
    model: SeedModel, top: Weights, bottom: Weights, level: str = ALL_LEVELS, alpha: float = ALPHA
) -> Ratio | None:
    """Ratio of two contrasts with its interval by Fieller's method; None unless `bottom` is shown to be positive.

    The interval holds all R for which the contrast top - R bottom is not rejected at `alpha` (Fieller 1954). An end
    beyond a million times is infinite.
    """
    below = model.contrast(bottom, level)
    if below.one_seed or below.interval(alpha)[0] <= 0:
        return None
    value = model.contrast(top, level).difference / below.difference if model.by_runs(top) else 0.0
    z = -float(ndtri(alpha / 2))

    def margin(r: float) -> float:
        """By how many standard errors `r` is inside of the interval; negative: it is rejected."""
        weights = combine((1, top), (-r, bottom))
        p = model.contrast(weights, level).p_value() if model.by_runs(weights) else 1.0
        return z + float(ndtri(max(p, 1e-300) / 2))

    rest = combine((1, top), (-value, bottom))
    step = model.contrast(rest, level).half_width(alpha) / below.difference if model.by_runs(rest) else 0.1
    return Ratio(value, _edge(margin, value, z, -step), _edge(margin, value, z, step))


def gain_kept(
    model: SeedModel,
    points: Sequence[Point],
    clean: str,
    base: str,
    alpha: float = ALPHA,
) -> Ratio | None:
    """Share of the gain of `clean` over `base` that arms keep, averaged over x by the trapezoid rule.

    A method that learns nothing keeps 0, one that loses nothing 1. None ("no gain to keep") where `clean` is not shown
    to beat `base`.

    Args:
        points: of a method, such as its arms by noise, in the order of x; one point counts as it is.
    """
    weights = trapezoid([x for _, x in points])
    top = combine((-1, {base: 1}), *((u, _mean(arm)) for (arm, _), u in zip(points, weights, strict=True)))
    return ratio(model, top, difference(clean, base), ALL_LEVELS, alpha)


def trapezoid(x: Sequence[float]) -> np.ndarray:
    """(K,) increasing or decreasing x -> (K,) weights, sum 1, of the mean over x by the trapezoid rule."""
    if len(x) == 1:
        return np.ones(1)
    steps = np.diff(np.asarray(x, dtype=float))
    if not (all(steps > 0) or all(steps < 0)):
        raise ValueError(f"x must be in order and all different, not {list(x)}")
    return (np.append(steps, 0) + np.append(0, steps)) / (2 * steps.sum())


@dataclass(frozen=True)
class Needed:
    """What a true difference takes to be called better or worse with 80 % power: one of the two.

    Infinite where no number would do, because the uncertainty from the other alone is too large.
    """

    seeds: float  # so many more for every arm that has seeds, with the same questions
    questions: float  # so many times the present questions and videos, with the same seeds


def needed(model: SeedModel, weights: Weights, true: float, level: str = ALL_LEVELS, alpha: float = ALPHA) -> Needed:
    """More seeds or more questions that a true difference `true` needs, given the fitted scatter.

    With the observed difference as `true` this is as rough as that difference is.
    """

    def enough(more: int = 0, times: float = 1.0) -> bool:
        planned = {arm: model.seeds(arm) + more for arm in weights if arm not in model.unseeded}
        return model.contrast(weights, level, planned, times).detectable(alpha) <= abs(true)

    if enough():
        return Needed(0, 1.0)
    seeds, times = inf, inf
    if enough(more=MOST_SEEDS):
        low, high = 0, MOST_SEEDS
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(more=middle) else (middle, high)
        seeds = high
    if enough(times=MOST_QUESTIONS):
        few, many = 1.0, MOST_QUESTIONS
        while many / few > 1.01:
            between = (few * many) ** 0.5
            few, many = (few, between) if enough(times=between) else (between, many)
        times = many
    return Needed(seeds, times)


def _mean(arm: str | Weights) -> Weights:
    return {arm: 1.0} if isinstance(arm, str) else arm


def _arms(weights: Weights) -> list[str]:
    return [arm for arm, weight in weights.items() if weight]


def _edge(margin: Callable[[float], float], inside: float, margin_inside: float, step: float) -> float:
    """The value where `margin` gets negative, on the side of `inside` to which `step` leads: a first guess.

    Beyond a million times it is infinite. The root is found by the Illinois method, a regula falsi; margins are nearly
    linear.
    """
    near, near_margin = inside, margin_inside
    far = inside + step
    while (far_margin := margin(far)) >= 0:
        near, near_margin, step = far, far_margin, 2 * step
        if abs(step) > 1e6:
            return inf if step > 0 else -inf
        far = inside + step
    for _ in range(60):
        if abs(far - near) < 1e-4 * (1 + abs(far)) or min(near_margin, -far_margin) < 1e-3:
            break
        between = near + (far - near) * near_margin / (near_margin - far_margin)
        found = margin(between)
        if found >= 0:
            near, near_margin, far_margin = between, found, far_margin / 2
        else:
            far, far_margin, near_margin = between, found, near_margin / 2
    return far if -far_margin < near_margin else near
