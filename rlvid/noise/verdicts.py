"""Wrong verdicts: what the verifier or judge says is changed before it is added up. Evaluation's are left alone.

Labels are wrong once for all; verdicts are wrong per text, per step or per completion, and so average out differently.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rlvid.errors import UserError
from rlvid.noise.base import Noise, check_rates
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.hashing import uniform_hash


@dataclass(frozen=True)
class VerdictNoise(Noise):
    """Changes the `column` of one reward; where that does not apply (None), nothing is said.

    What was said before is kept as evidence, `clean_verdicts`, for `Run.judged` to count.
    """

    column: str = "accuracy"

    @property
    def reward(self) -> str:
        """The one whose column it is."""
        return self.column

    def check_rewards(self, columns: Collection[str]) -> None:
        """Refuse a column that no reward of the mix fills."""
        if self.column not in columns:
            raise UserError(f"noise.column: no reward {self.column!r} in the mix: {', '.join(columns)}")

    def corrupt_verdicts(self, column: str, groups: Sequence[Group], step: int) -> None:
        """Each completion's verdict, in place."""
        if column != self.column:
            return
        for group in groups:
            group.evidence["clean_verdicts"] = list(group[column])
            verdicts = zip(group[column], group, strict=True)
            group.columns[column] = [
                None if value is None else self.verdict(value, group.prompt, completion, place, step)
                for place, (value, completion) in enumerate(verdicts)
            ]

    def verdict(self, value: float, prompt: Prompt, completion: Completion, place: int, step: int) -> float:
        """What is said of the completion at a place in its group, in a step, that truly earned `value`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Verifier(VerdictNoise):
    """Wrong answers paid and right ones not, by sample and text, or `fresh` in every step (rates: arXiv:2510.00915).

    For verdicts of 0 and 1. Persistent, the same text is always judged alike and can be exploited; fresh, it averages
    out. J = 1 - false_positives - false_negatives.
    """

    false_positives: float = 0.0
    false_negatives: float = 0.0
    fresh: bool = False

    def __post_init__(self) -> None:
        check_rates(false_positives=self.false_positives, false_negatives=self.false_negatives)

    def verdict(self, value: float, prompt: Prompt, completion: Completion, place: int, step: int) -> float:
        u = uniform_hash(self.seed, "verifier", prompt.id, *([step] if self.fresh else []), completion.text)
        return 1 - value if u < (self.false_negatives if value > 0.5 else self.false_positives) else value

    def youden_j(self, options: int = 4) -> float:
        """Right answers are paid so much more often than wrong ones."""
        return 1 - self.false_positives - self.false_negatives


@dataclass(frozen=True)
class GroupFlip(VerdictNoise):
    """All verdicts of a group become 1 - r, drawn anew in every step, as in arXiv:2505.22653's code; J = 1 - 2 rate."""

    rate: float = 0.0

    def __post_init__(self) -> None:
        check_rates(rate=self.rate)

    def verdict(self, value: float, prompt: Prompt, completion: Completion, place: int, step: int) -> float:
        return 1 - value if uniform_hash(self.seed, "group_flip", prompt.id, step) < self.rate else value

    def youden_j(self, options: int = 4) -> float:
        """Right answers of a flipped group are paid as wrong ones are."""
        return 1 - 2 * self.rate


@dataclass(frozen=True)
class Gaussian(VerdictNoise):
    """Each verdict plus `sigma` times a standard normal number, by sample, step and place in the group (ours)."""

    sigma: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < float("inf"):
            raise ValueError(f"sigma must be 0 or more, not {self.sigma}")

    def verdict(self, value: float, prompt: Prompt, completion: Completion, place: int, step: int) -> float:
        from scipy.special import ndtri

        u = uniform_hash(self.seed, "gaussian", prompt.id, step, place)
        return value + self.sigma * float(ndtri(max(u, 2**-53)))

    def youden_j(self, options: int = 4) -> float:
        """1: what is added has mean 0, so only the variance grows."""
        return 1.0


@dataclass(frozen=True)
class HeavyTailed(VerdictNoise):
    """Each verdict plus `scale` times Student's t, by sample, step and place (ours): at `df` 2, no finite variance."""

    scale: float = 0.0
    df: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.scale < float("inf"):
            raise ValueError(f"scale must be 0 or more, not {self.scale}")
        if not self.df > 1:
            raise ValueError(f"df must be above 1, or the noise has no mean; not {self.df}")

    def verdict(self, value: float, prompt: Prompt, completion: Completion, place: int, step: int) -> float:
        from scipy.special import stdtrit

        u = uniform_hash(self.seed, "heavy_tailed", prompt.id, step, place)
        return value + self.scale * float(stdtrit(self.df, max(u, 2**-53)))

    def youden_j(self, options: int = 4) -> float:
        """1: what is added has mean 0."""
        return 1.0


@dataclass(frozen=True)
class JudgeConfusion(VerdictNoise):
    """A score on a rubric of `levels` from 0 to 1 becomes another, each as likely (as arXiv:1810.01032), by text."""

    rate: float = 0.0
    levels: int = 5

    def __post_init__(self) -> None:
        check_rates(rate=self.rate)
        if self.levels < 2:
            raise ValueError(f"levels must be 2 or more, not {self.levels}")

    def verdict(self, value: float, prompt: Prompt, completion: Completion, place: int, step: int) -> float:
        if not 0 <= value <= 1:
            raise UserError(f"judge_confusion: {self.column} gave sample {prompt.id} {value}, off the rubric of 0 to 1")
        about = self.seed, "judge_confusion", prompt.id, completion.text
        if uniform_hash(*about) >= self.rate:
            return value
        level = round(value * (self.levels - 1))
        others = [other for other in range(self.levels) if other != level]
        return others[int(uniform_hash(*about, "to") * len(others))] / (self.levels - 1)

    def youden_j(self, options: int = 4) -> float:
        """1 - rate K / (K - 1) for K levels: another level's mean falls as the true one rises."""
        return 1 - self.rate * self.levels / (self.levels - 1)


@dataclass(frozen=True)
class LengthBias(VerdictNoise):
    """Each verdict plus `kappa` for every 100 tokens: the verbosity bias of judges (arXiv:2306.05685)."""

    kappa: float = 0.0

    def verdict(self, value: float, prompt: Prompt, completion: Completion, place: int, step: int) -> float:
        return value + self.kappa * len(completion.tokens) / 100


VERDICTS: dict[str, type[Noise]] = {
    "verifier": Verifier,
    "group_flip": GroupFlip,
    "gaussian": Gaussian,
    "heavy_tailed": HeavyTailed,
    "judge_confusion": JudgeConfusion,
    "length_bias": LengthBias,
}
