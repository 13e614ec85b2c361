"""A hierarchical model of how training seeds scatter, and confidence intervals for differences between arms.

Two runs of one configuration that differ only in the seed end at different accuracies. With two or three seeds per arm
the scatter of a single arm is almost unknown, and tests that plug in its estimate reject far too often. Here the
scatter is estimated from all arms and levels of a grid together (`seed_scatter`), and what remains unknown about it is
integrated out.

    model = SeedModel.fit(scores, videos, unseeded=["base"])
    contrast = model.contrast({"grpo": 1, "sft": -1})
    contrast.difference, contrast.p_value(), contrast.interval(0.05)

Accuracies, differences and standard deviations are shares in [0, 1], or in the unit of an endpoint with a wider range:
its scores are divided by their range before the model is fitted, as the prior of the scatter is about shares. S is the
number of seeds, Q of questions, K = len(TAU).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, sqrt

import numpy as np
from scipy.special import ndtr, ndtri

from rlvid.study.mixtures import merge, student
from rlvid.study.power import ALPHA, POWER
from rlvid.study.seed_scatter import TAU, Cells, LevelDifference, SeedScatter, check_scores, reach, shared_videos

ALL_LEVELS = "all levels"
ASSUMPTIONS = (
    "Seeds of an arm are drawn alike; how much arms scatter is learned from all arms and levels together, and more "
    "from an arm's own runs the more it has; pairing by seed is not used; videos are independent."
)
LEAST_SHARE = 0.2  # of a variance is kept where an estimated term reduces it: that estimate may be too large
FINENESS = 20  # seed variances far below that from questions divided by this are merged: beside it they do not differ


@dataclass(frozen=True, eq=False)
class Contrast:
    """A weighted sum of arms' accuracies with its uncertainty, a mixture of normal distributions over its variance."""

    weights: Mapping[str, float]
    level: str
    difference: float  # sum of weight x accuracy
    variances: np.ndarray  # (M,) possible squared standard errors of `difference`, for new seeds on new videos
    chances: np.ndarray  # (M,) their probabilities
    question_variance: float  # its part from questions, a point estimate
    seed_variance: float  # its part from seeds, the posterior mean
    one_seed: bool = False  # no arm of the grid has two seeds: the scatter of seeds is only the prior's

    @property
    def variance(self) -> float:
        """The expected squared standard error of the difference: its parts from questions and from seeds."""
        return self.question_variance + self.seed_variance

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p-value of the hypothesis that the true difference is `null`."""
        return float(2 * self.chances @ ndtr(-abs(self.difference - null) / np.sqrt(self.variances)))

    def half_width(self, alpha: float = ALPHA) -> float:
        """Half the width of the 1 - `alpha` interval: the distance at which the p-value is `alpha`."""
        if alpha <= 0:
            return inf
        roots = np.sqrt(self.variances)
        low, high = 0.0, float(-ndtri(alpha / 2) * roots.max())
        for _ in range(50):
            middle = (low + high) / 2
            if 2 * self.chances @ ndtr(-middle / roots) > alpha:
                low = middle
            else:
                high = middle
        return high

    def interval(self, alpha: float = ALPHA) -> tuple[float, float]:
        """Ends of the 1 - `alpha` confidence interval; it holds the values whose p-value is at least `alpha`."""
        half = self.half_width(alpha)
        return self.difference - half, self.difference + half

    def power(self, true: float, alpha: float = ALPHA) -> float:
        """Probability that an interval as wide as this one lies on the right side of 0 if the difference is `true`."""
        return float(self.chances @ ndtr((abs(true) - self.half_width(alpha)) / np.sqrt(self.variances)))

    def detectable(self, alpha: float = ALPHA, power: float = POWER) -> float:
        """The smallest true difference that is called better or worse at `alpha` with probability `power` >= 0.5."""
        half, roots = self.half_width(alpha), np.sqrt(self.variances)
        low, high = half, half + float(ndtri(power) * roots.max())
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self.chances @ ndtr((middle - half) / roots) < power else (low, middle)
        return high


@dataclass(frozen=True, eq=False)
class SeedModel:
    """The fitted scatter of a grid's seeds; make it with `fit`, then take contrasts."""

    cells: Mapping[str, Mapping[str, Cells]]  # arm -> level -> its answers
    unseeded: frozenset[str]
    scatter: SeedScatter
    same_runs: Mapping[str, str] = field(default_factory=dict)  # arm -> the arm whose runs are its own
    videos: Mapping[str, np.ndarray] = field(default_factory=dict)  # level -> (V,) numbers; {}: levels share none
    unit: float = 1.0  # range of the scores where it is above 1: `cells` and `scatter` are of scores divided by it
    _factors: dict[tuple[str, ...], float] = field(default_factory=dict)

    @staticmethod
    def fit(
        scores: Mapping[str, Mapping[str, np.ndarray]],
        videos: Mapping[str, np.ndarray | None] | None = None,
        unseeded: Iterable[str] = (),
        same_runs: Mapping[str, str] | None = None,
    ) -> SeedModel:
        """Estimate the scatter of seeds from all arms and levels.

        Args:
            scores: arm -> level -> (S, Q) scores, such as 0 or 1. Row i of each level is the same run; arms may have
                different levels and different S. All arms answered a level's questions in the same order.
            videos: level -> (Q,) labels of the questions' videos, None (or no entry) if each has its own. Levels on
                which one label occurs share that video.
            unseeded: arms without a random seed, such as a base model, whose scatter is zero.
            same_runs: arm -> another arm with the same runs, which count once.

        Raises:
            ValueError: shapes disagree, or an arm has no scores.
        """
        check_scores(scores)
        labels = videos or {}
        unit = max(1.0, float(np.ptp([f(x) for of in scores.values() for x in of.values() for f in (np.min, np.max)])))
        cells = {
            arm: {level: Cells.of(np.asarray(x, float) / unit, labels.get(level)) for level, x in levels.items()}
            for arm, levels in scores.items()
        }
        copies, fixed = dict(same_runs or {}), {*unseeded}
        fixed |= {copies[arm] for arm in copies if arm in fixed}
        fixed |= {arm for arm, other in copies.items() if other in fixed}
        scatter = SeedScatter.fit({arm: c for arm, c in cells.items() if arm not in fixed and arm not in copies})
        tau = {arm: scatter.tau[other] for arm, other in copies.items() if other not in fixed}
        scatter = replace(scatter, tau={**scatter.tau, **tau})
        return SeedModel(cells, frozenset(fixed), scatter, copies, shared_videos(labels), unit)

    @property
    def levels(self) -> list[str]:
        """Levels in the order of their first arm."""
        return list(dict.fromkeys(level for levels in self.cells.values() for level in levels))

    @property
    def one_seed(self) -> bool:
        """Whether there are arms with seeds, and each has only one."""
        counts = [self.seeds(arm) for arm in self.cells if arm not in self.unseeded]
        return bool(counts) and max(counts) == 1

    def seeds(self, arm: str) -> int:
        """Number of runs of an arm."""
        return len(next(iter(self.cells[arm].values())).accuracy)

    def seed_sd(self, arm: str) -> float:
        """SD of an arm's accuracy over training seeds on a typical level: root of the posterior mean of tau^2."""
        return 0.0 if arm in self.unseeded else self.unit * sqrt(float(self.scatter.marginal(arm) @ TAU**2))

    def shared_levels(self, arms: Iterable[str]) -> list[str]:
        """Levels that all of some arms have answered."""
        names = list(arms)
        return [level for level in self.levels if all(level in self.cells[arm] for arm in names)]

    def by_runs(self, weights: Mapping[str, float]) -> dict[str, float]:
        """The weights that are not 0, once those of arms with the same runs are added up."""
        sums: dict[str, float] = {}
        for arm, weight in weights.items():
            arm = self.same_runs.get(arm, arm)
            sums[arm] = sums.get(arm, 0.0) + weight
        return {arm: weight for arm, weight in sums.items() if abs(weight) > 1e-12}

    def contrast(
        self,
        weights: Mapping[str, float],
        level: str = ALL_LEVELS,
        seeds: Mapping[str, int] | None = None,
        questions: float = 1.0,
    ) -> Contrast:
        """The weighted sum of arms' accuracies on a level, or its mean over all levels that these arms share.

        Args:
            weights: arm -> weight; the weights sum to 0. Weights of arms with the same runs are added up; if nothing is
                left of any, the arms are compared as if their runs were others.
            level: a level's name or `ALL_LEVELS`.
            seeds: arm -> number of seeds to compute the uncertainty for, as if the arm had so many; to plan.
            questions: a multiple of the present number of videos and questions, likewise.

        Raises:
            ValueError: weights do not sum to 0, all are 0, or the arms have not all answered the level.
        """
        used = self.by_runs(weights) or {arm: float(weight) for arm, weight in weights.items() if weight}
        if not used or abs(sum(used.values())) > 1e-9:
            raise ValueError(f"a contrast's weights sum to 0 and are not all 0, not {dict(weights)}")
        shared = self.shared_levels(used)
        levels = shared if level == ALL_LEVELS else [level]
        if not levels or not set(levels) <= set(shared):
            raise ValueError(f"{' and '.join(used)} have not all answered {level}")
        planned = {arm: (seeds or {}).get(arm, self.seeds(arm)) for arm in used}
        by_level = np.array([self._questions(used, one, planned) for one in levels])  # (L, 3)
        differences, variances, degrees = by_level.T
        (together, distinct), total = self._together(used, levels), variances.sum()
        question_variance = float(max(total + together, LEAST_SHARE * total)) / len(levels) ** 2 / questions
        degrees_of_freedom = float(distinct * total**2 / (variances**2 / degrees).sum() * questions)  # Satterthwaite
        seeded = {arm: weight**2 / planned[arm] for arm, weight in used.items() if arm not in self.unseeded}
        values, probabilities = self._seed_variance(seeded, levels, question_variance / FINENESS)
        mean = float(values @ probabilities)
        factors, shares = student(degrees_of_freedom)
        values, probabilities = merge(values[:, None] + question_variance * factors, probabilities[:, None] * shares)
        one_seed, difference, square = (
            self.one_seed and bool(seeded),
            self.unit * float(differences.mean()),
            self.unit**2,
        )
        parts = (square * values, probabilities, square * question_variance, square * mean)
        return Contrast(used, level, difference, *parts, one_seed)

    def _questions(self, weights: Mapping[str, float], level: str, planned: Mapping[str, int]) -> LevelDifference:
        """Return the difference on one level, with its variance from questions with `planned` seeds."""
        gaps, pseudo = self._gaps(weights, level), self.cells[next(iter(weights))][level].pseudo
        squared, count = sum(weight**2 for weight in weights.values()), len(gaps)
        if count == 1:
            return LevelDifference(float(gaps[0]), squared / 4, 1.0)  # one video says nothing of others: the most
        # half a question that two arms answer differently is added: arms that agree on all asked may still differ
        squares = float(((gaps - gaps.mean()) ** 2).sum()) + squared / 2 * pseudo
        variance = squares / ((count - 1) * count)
        saved = sum(
            weight**2 * self._noise(arm, level) * (1 / self.seeds(arm) - 1 / planned[arm])
            for arm, weight in weights.items()
        )
        return LevelDifference(float(gaps.mean()), max(LEAST_SHARE * variance, variance - saved), count - 1.0)

    def _gaps(self, weights: Mapping[str, float], level: str) -> np.ndarray:
        """(V,) the contrast about each video of a level; their mean is the difference."""
        return sum((weight * self.cells[arm][level].by_video for arm, weight in weights.items()), np.zeros(1))

    def _together(self, weights: Mapping[str, float], levels: Sequence[str]) -> tuple[float, float]:
        """What videos that levels share add to the variance of the levels' sum, and the share of videos that differ.

        A video's deviations on all its levels are added before they are squared: they need not be independent.
        """
        ids, errors = [np.zeros(0, int)], [np.zeros(0)]
        for level in levels if len(levels) > 1 else ():
            gaps = self._gaps(weights, level)
            if level in self.videos and len(gaps) > 1:
                ids.append(self.videos[level])
                errors.append((gaps - gaps.mean()) / sqrt((len(gaps) - 1) * len(gaps)))
        numbers, error = np.concatenate(ids), np.concatenate(errors)
        if not len(numbers):
            return 0.0, 1.0
        extra = float((np.bincount(numbers, error) ** 2).sum() - (error**2).sum())
        return extra, len(np.unique(numbers)) / len(numbers)

    def _seed_variance(
        self, seeded: Mapping[str, float], levels: Sequence[str], small: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values and probabilities of factor x sum over arms of share x tau^2, for `seeded`: arm -> share.

        Given rho the arms are independent; over several levels rho matters for all alike, so that it is mixed last.
        Differences below `small` may be merged.
        """
        scatter, factor = self.scatter, self._level_factor(tuple(levels))
        several = len(levels) > 1
        parts = []
        for i, chance in enumerate(scatter.chances if several else [1.0]):
            if chance < 1e-6:
                continue
            values, chances = np.zeros(1), np.full(1, chance)
            for arm, share in seeded.items():
                scale = share * factor * (reach(len(levels))[i] if several else 1.0)
                posterior = scatter.tau[arm][i] if several else scatter.marginal(arm)
                values, chances = merge(values[:, None] + scale * TAU**2, chances[:, None] * posterior, small)
            parts.append((values, chances))
        values, chances = (np.concatenate(x) for x in zip(*parts, strict=True))
        return values, chances / chances.sum()

    def _level_factor(self, levels: tuple[str, ...]) -> float:
        """`SeedScatter.level_factor` of these levels, kept; 1 where there is only one level."""
        if levels not in self._factors:
            arms = {
                arm: [of[level] for level in levels]
                for arm, of in self.cells.items()
                if not {arm} & {*self.unseeded, *self.same_runs} and self.seeds(arm) > 1 and {*levels} <= {*of}
            }
            self._factors[levels] = self.scatter.level_factor(arms) if len(self.levels) > 1 else 1.0
        return self._factors[levels]

    def _noise(self, arm: str, level: str) -> float:
        """An arm's question noise on a level; for an arm with one seed the mean of the others'."""
        if arm in self.unseeded:
            return 0.0
        known = [of[level].noise for of in self.cells.values() if level in of and of[level].noise]
        return self.cells[arm][level].noise or (float(np.mean(known)) if known else 0.0)
