"""Simulated grids whose true accuracies are known, to measure how often verdicts are wrong.

A run answers a question correctly if a latent normal variable falls below a threshold. The variable is a sum of the
question's difficulty, shared by all runs, of how an arm likes the question, shared by its seeds, and of noise; part of
both belongs to the question's video. The threshold of a run is set so that its expected accuracy is the arm's true
accuracy plus the run's seed effect. All figures of a scenario are in points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

BASE = "base"
CENTRE = 45.0  # accuracy of the base model on the first level
SIZES = (400, 320, 320, 200, 200)
Scores = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Scenario:
    """How a grid of trained arms and a base model is simulated."""

    name: str
    arms: int = 4  # trained ones
    seeds: int | Sequence[int] = 3  # of each trained arm
    sd: float | Sequence[float] = 2.0  # of an arm's seed effect on a level
    sizes: Sequence[int] = SIZES  # questions of each level
    effects: Sequence[float] = ()  # true accuracy of each trained arm above the base's; 0 where none is given
    only_level: int | None = None  # the effects are there on this level only
    scales: Sequence[float] = ()  # multiplies sd on each level
    correlation: float = 0.3  # of a run's seed effects between levels
    shape: str = "normal"  # of seed effects: normal, t3 (Student's, 3 degrees), skewed (a shifted exponential)
    collapse: float = 0.0  # probability that a run of any arm loses `drop`
    drop: float = 15.0
    jump: float = 0.0  # probability that a run of the second trained arm gains `rise`; others never do
    rise: float = 22.0
    per_video: int = 1  # questions about one video
    agreement: float = 0.85  # latent correlation of two arms' answers; .97: they differ on 8 %, .2: on 43 %
    margin: float = 3.0
    pairs: str = "base and control"  # the first arm with the base, the others with the first; "control": only these

    @property
    def names(self) -> list[str]:
        """The names of the trained arms, from "arm 1" on."""
        return [f"arm {i + 1}" for i in range(self.arms)]

    @property
    def levels(self) -> list[str]:
        """Levels, with the easiest first."""
        return [f"L{i + 1}" for i in range(len(self.sizes))]

    def comparisons(self) -> list[tuple[str, str]]:
        """Pairs of arms to be compared."""
        first, *others = self.names
        pairs = [(arm, first) for arm in others]
        return pairs if self.pairs == "control" else [(first, BASE), *pairs]

    def accuracy(self) -> dict[str, np.ndarray]:
        """Arm -> (L,) true expected accuracy, a share, of a new run on new questions."""
        levels = np.arange(len(self.sizes))
        start = CENTRE - 2.0 * levels - self.collapse * self.drop
        effects = [*self.effects, *([0.0] * (self.arms - len(self.effects)))]
        reach = np.ones(len(levels)) if self.only_level is None else (levels == self.only_level)
        effects = [effect + (i == 1) * self.jump * self.rise for i, effect in enumerate(effects)]
        truth = {arm: (start + effect * reach) / 100 for arm, effect in zip(self.names, effects, strict=True)}
        return {BASE: start / 100, **truth}

    def seed_effects(self, arm: int, runs: int, rng: np.random.Generator) -> np.ndarray:
        """(runs, L) seed effects of an arm, shares with mean 0."""
        levels = len(self.sizes)
        common, own = self._draw((runs, 1), rng), self._draw((runs, levels), rng)
        mixed = np.sqrt(self.correlation) * common + np.sqrt(1 - self.correlation) * own
        sd = self.sd if isinstance(self.sd, int | float) else self.sd[arm]
        lost = (rng.random((runs, 1)) < self.collapse) * self.drop - self.collapse * self.drop
        chance = self.jump if arm == 1 else 0.0
        won = (rng.random((runs, 1)) < chance) * self.rise - chance * self.rise if chance else 0.0
        return (sd * mixed * np.array(self.scales or [1.0] * levels) - lost + won) / 100

    def _draw(self, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Independent effects of mean 0 and variance 1."""
        if self.shape == "t3":
            return rng.standard_t(3, shape) / np.sqrt(3)
        return rng.exponential(size=shape) - 1 if self.shape == "skewed" else rng.standard_normal(shape)


# Runs that find a way that others do not: their scatter cannot be seen where none of two or three runs did
TWO_MODES = Scenario(
    "one arm of eight gains 22 in 25 % of runs",
    arms=8,
    sd=0.3,
    sizes=(200, 200),
    jump=0.25,
    agreement=0.97,
    margin=5.0,
    pairs="control",
)


def simulate(scenario: Scenario, rng: np.random.Generator, seeds: int | None = None) -> Scores:
    """Arm -> level -> (S, Q) answers, 1 where correct; the base has one run. `seeds` overrides the scenario's."""
    truth = scenario.accuracy()
    counts = [scenario.seeds] * scenario.arms if isinstance(scenario.seeds, int) else scenario.seeds
    shifts = {BASE: np.zeros((1, len(scenario.sizes)))}
    for i, arm in enumerate(scenario.names):
        shifts[arm] = scenario.seed_effects(i, seeds or counts[i], rng)
    scores: Scores = {arm: {} for arm in truth}
    for i, (level, size) in enumerate(zip(scenario.levels, scenario.sizes, strict=True)):
        shared, liking = scenario.agreement, (1 - scenario.agreement) / 2
        difficulty = np.sqrt(shared) * clustered(1, size, scenario.per_video, rng)
        for arm, shift in shifts.items():
            threshold = ndtri(np.clip(truth[arm][i] + shift[:, i : i + 1], 0.02, 0.98))
            own = np.sqrt(liking) * clustered(1, size, scenario.per_video, rng)
            noise = np.sqrt(1 - shared - liking) * rng.standard_normal((len(shift), size), dtype=np.float32)
            scores[arm][level] = (difficulty + own + noise < threshold).astype(float)
    return scores


def clustered(rows: int, size: int, per_video: int, rng: np.random.Generator) -> np.ndarray:
    """(rows, size) standard normal; half of the variance is shared by the `per_video` questions about a video."""
    free = rng.standard_normal((rows, size), dtype=np.float32)
    if per_video == 1:
        return free
    videos = rng.standard_normal((rows, -(-size // per_video)), dtype=np.float32)
    return np.sqrt(0.5) * (free + np.repeat(videos, per_video, axis=1)[:, :size])


def videos(scenario: Scenario) -> Mapping[str, np.ndarray | None]:
    """Level -> (Q,) number of each question's video, None if all differ. Levels share no video."""
    if scenario.per_video == 1:
        return dict.fromkeys(scenario.levels)
    first = np.cumsum([0, *scenario.sizes])
    return {
        level: first[i] + np.arange(q) // scenario.per_video
        for i, (level, q) in enumerate(zip(scenario.levels, scenario.sizes, strict=True))
    }


def draw(name: str, seeds: int | None, rng: np.random.Generator) -> Scenario:
    """A scenario at random: 2 to 14 arms, 1 to 8 levels, half of the arms equal; `seeds` None: 1 to 6, unequal."""
    arms, levels = int(rng.integers(2, 15)), int(rng.integers(1, 9))
    typical, spread = np.exp(rng.uniform(np.log(0.5), np.log(5))), rng.choice([0.0, 0.3, 0.6])
    sd = typical * np.exp(spread * rng.standard_normal(arms))
    per_video = int(rng.choice([1, 1, 4, 10]))
    return Scenario(
        name,
        arms,
        seeds or rng.integers(1, 7, arms).tolist(),
        np.minimum(sd, 9).tolist(),
        (10 * rng.integers(10, 81, levels)).tolist(),
        (rng.choice([0, 0, 0, -5, 2, 3, 5, 10], arms)).tolist(),
        scales=np.exp(0.4 * rng.standard_normal(levels)).tolist(),
        correlation=float(rng.uniform(0, 0.95)),
        shape=str(rng.choice(["normal", "t3", "skewed"])),
        collapse=float(rng.choice([0, 0, 0.05])),
        per_video=per_video,
        agreement=float(rng.choice([0.95, 0.85, 0.6])),
    )
