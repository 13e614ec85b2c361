"""How much training seeds scatter, estimated from all arms and levels of a grid together.

A run's accuracy on a level deviates from its arm's by a seed effect with SD tau, which differs between arms, and by
noise from single answers, whose variance is known from the questions. Effects of one run on two levels have the
correlation rho. tau and rho are unknown and are integrated out on grids: log tau of a grid's arms has a common normal
distribution with unknown mean and SD, except for two arms in five, about which nearly nothing is assumed; rho is any of
RHO. (Empirical Bayes, as in moderated t-tests: Smyth 2004, doi:10.2202/1544-6115.1027.) `seed_model` builds confidence
intervals on it, `calibration` measures how often these are wrong.

Accuracies and standard deviations are shares in [0, 1]. S is the number of seeds, Q of questions, V of videos, L of
levels, K = len(TAU), R = len(RHO), H the number of hypotheses about a grid's arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

TAU = np.concatenate([[0.0], np.geomspace(0.004, 0.4, 31)])  # (K,)
RHO = np.array([0.0, 0.25, 0.5, 0.75, 0.95])  # (R,) equally likely a priori
_MEDIANS = np.geomspace(0.0025, 0.32, 22)  # of a grid's tau, equally likely a priori
_SPREADS = {0.15: 0.4, 0.4: 0.3, 0.8: 0.2, 1.2: 0.1}  # SD of log tau between arms -> its prior probability
# Share of arms that are not like the others, and the SD of their log tau. A share of 0.2 gave 9 % false verdicts where,
# with two seeds, the control scatters five times as much as seven other arms; 0.4 costs 5 points of power at +5.
_ODD, _ODD_SPREAD = 0.4, 1.5
_FACTORS = np.geomspace(1 / 16, 16, 33)  # possible multipliers of tau^2 on a level
_FACTOR_SD = 0.8  # prior SD of the log of a multiplier


@dataclass(frozen=True, eq=False)
class Cells:
    """One arm's answers on one level, reduced to what the model uses."""

    accuracy: np.ndarray  # (S,) of each run
    by_video: np.ndarray  # (V,) V x (correct answers about a video) / Q, mean over runs; its mean is the accuracy
    noise: float  # variance of a run's accuracy from single answers; 0 if it is unknown, for want of a second run
    pseudo: float  # squared size of one question in units of `by_video`

    @staticmethod
    def of(scores: np.ndarray, videos: np.ndarray | None) -> Cells:
        """Reduce (S, Q) scores in [0, 1]; `videos`, (Q,), labels each question's video, None if all differ."""
        seeds, questions = scores.shape
        ids = np.arange(questions) if videos is None else np.unique(videos, return_inverse=True)[1]
        count = int(ids.max()) + 1
        cells = np.stack([np.bincount(ids, row, count) for row in scores]) * count / questions
        accuracy, by_video, pseudo = cells.mean(1), cells.mean(0), (count / questions) ** 2
        if seeds == 1 or count == 1:
            return Cells(accuracy, by_video, 0.0, pseudo)
        rest = cells - by_video - accuracy[:, None] + accuracy.mean()
        squares = max(float((rest**2).sum()), pseudo / 4)  # never quite zero, not even for runs that answer alike
        return Cells(accuracy, by_video, squares / ((seeds - 1) * (count - 1) * count), pseudo)


class LevelDifference(NamedTuple):
    """A contrast of arms on one level, with what is known of it from the questions; `seed_model` computes it."""

    difference: float
    variance: float
    degrees_of_freedom: float


@dataclass(frozen=True, eq=False)
class SeedScatter:
    """Posterior of rho, and of every arm's tau given rho."""

    chances: np.ndarray  # (R,) of each RHO
    tau: Mapping[str, np.ndarray]  # arm -> (R, K) probabilities of each TAU; rows sum to 1

    @staticmethod
    def fit(arms: Mapping[str, Mapping[str, Cells]]) -> SeedScatter:
        """From arm -> level -> cells, of arms that have seeds; one with a single run gets the grid's prediction."""
        hypotheses, prior = _prior()  # (H,), (H, K)
        likelihoods = {
            arm: np.exp(logs - logs.max()) for arm, logs in ((a, _log_likelihood(c)) for a, c in arms.items())
        }
        evidence = {arm: prior @ likelihood.T for arm, likelihood in likelihoods.items()}  # (H, R)
        logs = np.log(hypotheses)[:, None] + sum((np.log(e) for e in evidence.values()), np.zeros(len(RHO)))
        chances = np.exp(logs - logs.max()).sum(0)
        given = np.exp(logs - logs.max(0))
        given /= given.sum(0)  # (H, R) posterior of the hypotheses given rho
        tau = {arm: _rows(x * ((given / evidence[arm]).T @ prior)) for arm, x in likelihoods.items()}
        return SeedScatter(chances / chances.sum(), tau)

    def marginal(self, arm: str) -> np.ndarray:
        """(K,) posterior of an arm's tau."""
        return self.chances @ self.tau[arm]

    def level_factor(self, arms: Mapping[str, Sequence[Cells]]) -> float:
        """How many times larger the seed variance is on some levels' mean than tau and rho alone say.

        Posterior mean, from the scatter of the runs' means over these levels given the posterior means of tau^2. For
        one level it says how many times more than on others seeds scatter there.

        Args:
            arms: each arm with at least two runs, and its cells on these levels.
        """
        logs = -(np.log(_FACTORS) ** 2) / (2 * _FACTOR_SD**2)
        for arm, cells in arms.items():
            runs = np.mean([c.accuracy for c in cells], axis=0)
            expected = float((self.chances * reach(len(cells))) @ (self.tau[arm] @ TAU**2))
            variances = _FACTORS * expected + sum(c.noise for c in cells) / len(cells) ** 2 + 1e-12
            logs -= (len(runs) - 1) / 2 * (np.log(variances) + runs.var(ddof=1) / variances)
        chances = np.exp(logs - logs.max())
        return float(chances @ _FACTORS / chances.sum())


def shared_videos(labels: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray]:
    """Level -> (V,) numbers of its videos as in `Cells.by_video`, alike on all levels; {} if none is shared."""
    names = {level: np.unique(of) for level, of in labels.items() if of is not None}
    every = np.concatenate([np.zeros(0, int), *names.values()]) if len(names) > 1 else np.zeros(0, int)
    numbers = np.unique(every, return_inverse=True)[1]
    if len(set(numbers)) == len(numbers):
        return {}
    return dict(zip(names, np.split(numbers, np.cumsum([len(of) for of in names.values()])[:-1]), strict=True))


def reach(levels: int) -> np.ndarray:
    """(R,) variance of the mean of a run's effects over so many levels, in units of tau^2, for each RHO."""
    return RHO + (1 - RHO) / levels


def check_scores(scores: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """ValueError where scores have other shapes than `seed_model.SeedModel.fit` takes."""
    questions: dict[str, int] = {}
    for arm, levels in scores.items():
        shapes = {level: np.shape(x) for level, x in levels.items()}
        if not shapes or any(len(shape) != 2 or 0 in shape for shape in shapes.values()):
            raise ValueError(f"{arm}: scores must be (S, Q) with at least one seed and one question, not {shapes}")
        if len({shape[0] for shape in shapes.values()}) > 1:
            raise ValueError(f"{arm}: every level needs the same runs, row by row, not {shapes}")
        for level, (_, count) in shapes.items():
            if questions.setdefault(level, count) != count:
                raise ValueError(f"{arm}: {count} questions on {level}, but {questions[level]} in other arms")
            if not np.isfinite(levels[level]).all():
                raise ValueError(f"{arm}: scores on {level} are not all finite")


def _log_likelihood(levels: Mapping[str, Cells]) -> np.ndarray:
    """(R, K) log-likelihood of one arm's runs, up to a constant.

    Their deviations from the arm's mean are S - 1 draws of N(0, tau^2 (rho 1 1' + (1 - rho) I) + diag(noise)) in L
    dimensions: determinant and inverse by the Sherman-Morrison formula.
    """
    accuracies = np.stack([c.accuracy for c in levels.values()], axis=1)  # (S, L)
    freedom = len(accuracies) - 1
    if not freedom:
        return np.zeros((len(RHO), len(TAU)))
    gaps = accuracies - accuracies.mean(0)
    noise = np.array([max(c.noise, 1e-9) for c in levels.values()])  # (L,)
    common = RHO[:, None] * TAU**2  # (R, K)
    own = noise + ((1 - RHO[:, None]) * TAU**2)[..., None]  # (R, K, L)
    grown = 1 + common * (1 / own).sum(-1)
    explained = common / grown * ((gaps @ (1 / own)[..., None])[..., 0] ** 2).sum(-1)
    squares = ((gaps**2).sum(0) / own).sum(-1) - explained
    return -freedom / 2 * (np.log(own).sum(-1) + np.log(grown)) - squares / 2


@lru_cache(maxsize=1)
def _prior() -> tuple[np.ndarray, np.ndarray]:
    """(H,) prior probabilities of the hypotheses (median, spread) of tau, and (H, K) those of TAU given each."""
    spreads, chances = np.array(list(_SPREADS)), np.array(list(_SPREADS.values()))
    medians, spread = (x.ravel()[:, None] for x in np.meshgrid(_MEDIANS, spreads, indexing="ij"))
    hypotheses = np.tile(chances / len(_MEDIANS), len(_MEDIANS))
    return hypotheses, (1 - _ODD) * _log_normal(medians, spread) + _ODD * _log_normal(medians, _ODD_SPREAD)


def _log_normal(median: np.ndarray, spread: np.ndarray | float) -> np.ndarray:
    """(H, 1) medians -> (H, K) probabilities of TAU; half of what lies below the smallest positive TAU goes to 0."""
    logs = np.log(TAU[1:])
    below = ndtr(((logs[1:] + logs[:-1]) / 2 - np.log(median)) / spread)  # (H, K - 2)
    zero = ndtr((logs[0] - np.log(median)) / spread) / 2
    return np.diff(np.concatenate([0 * zero, zero, below, 0 * zero + 1], axis=1))


def _rows(table: np.ndarray) -> np.ndarray:
    """A table with each row divided by its sum."""
    return table / table.sum(1, keepdims=True)
