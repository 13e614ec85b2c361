"""Verdict noise: errors in the verdicts of one reward, made before the rewards are added up.

Evaluation verdicts are never changed. A wrong label is wrong in every step. A wrong verdict can be drawn per text, per
step or per completion, so it averages out in other ways.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rlvid.errors import UserError
from rlvid.noise.base import Noise, check_rates
from rlvid.noise.labels import first_named
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.hashing import uniform_hash

SMALLEST_U = 2**-53  # in place of 0, at which a normal or t distribution has no finite quantile


@dataclass(frozen=True)
class VerdictNoise(Noise):
    """Changes the verdicts in the `column` of one reward; None, where the reward does not apply, stays None.

    The group keeps its true verdicts as evidence `clean_verdicts`, so that a run can count the wrong ones.
    """

    column: str = "accuracy"

    @property
    def noisy_reward(self) -> str:
        return self.column

    def check_rewards(self, columns: Collection[str]) -> None:
        """Raise UserError if no reward of the mix fills the column."""
        if self.column not in columns:
            raise UserError(f"noise.column: no reward {self.column!r} in the mix: {', '.join(columns)}")

    def corrupt_rewards(self, column: str, groups: Sequence[Group], step: int) -> None:
        """Change each completion's verdict in place, if `column` is the noisy one."""
        if column != self.column:
            return
        for group in groups:
            clean = list(group[column])
            group.evidence["clean_verdicts"] = clean
            group.columns[column] = [
                None if value is None else self.corrupt_verdict(value, group.prompt, completion, index, step)
                for index, (value, completion) in enumerate(zip(clean, group, strict=True))
            ]

    def corrupt_verdict(self, value: float, prompt: Prompt, completion: Completion, index: int, step: int) -> float:
        """Return the noisy verdict of one completion.

        Args:
            value: its true verdict.
            prompt: the prompt of its group.
            completion: the completion.
            index: its index in the group.
            step: the training step.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Verifier(VerdictNoise):
    """Wrong answers paid and right ones not, by sample and text, or `fresh` in every step (rates: arXiv:2510.00915).

    For verdicts of 0 and 1. By default the same text always gets the same verdict, which the policy can exploit; with
    `fresh` the errors average out. J = 1 - false_positives - false_negatives.

    With `first_named` only wrong answers with the option that the question names first are paid: the rule of the label
    noise of this name, by which errors do not average out, `fresh` or not. Other wrong answers are not paid, so that
    J = 1 - false_positives / C - false_negatives for C options, if wrong answers are even over the options.
    """

    false_positives: float = 0.0
    false_negatives: float = 0.0
    fresh: bool = False
    first_named: bool = False

    def __post_init__(self) -> None:
        check_rates(false_positives=self.false_positives, false_negatives=self.false_negatives)

    def corrupt_verdict(self, value: float, prompt: Prompt, completion: Completion, index: int, step: int) -> float:
        draw = [step] if self.fresh else []
        u = uniform_hash(self.seed, "verifier", prompt.id, *draw, completion.text)
        error_rate = self.false_negatives if value > 0.5 else self.false_positives
        if u >= error_rate or (value <= 0.5 and not self.can_be_paid(prompt, completion)):
            return value
        return 1 - value

    def can_be_paid(self, prompt: Prompt, completion: Completion) -> bool:
        """Whether a wrong answer can be paid: every one, or with `first_named` that of the option named first."""
        return not self.first_named or (completion.answer is not None and completion.answer == first_named(prompt))

    def youden_j(self, num_options: int = 4) -> float:
        """How much more often right answers are paid than wrong ones."""
        paid = 1 / num_options if self.first_named else 1.0  # the share of wrong answers that can be paid
        return 1 - self.false_positives * paid - self.false_negatives


@dataclass(frozen=True)
class GroupFlip(VerdictNoise):
    """All verdicts of a group become 1 - r, drawn anew in every step, as in arXiv:2505.22653's code; J = 1 - 2 rate."""

    rate: float = 0.0

    def __post_init__(self) -> None:
        check_rates(rate=self.rate)

    def corrupt_verdict(self, value: float, prompt: Prompt, completion: Completion, index: int, step: int) -> float:
        is_flipped = uniform_hash(self.seed, "group_flip", prompt.id, step) < self.rate
        return 1 - value if is_flipped else value

    @property
    def errs_for_whole_groups(self) -> bool:
        """Whether any group is flipped."""
        return self.rate > 0

    def youden_j(self, num_options: int = 4) -> float:
        """1 - 2 rate: in a flipped group, right answers are paid as wrong ones are elsewhere."""
        return 1 - 2 * self.rate


@dataclass(frozen=True)
class Gaussian(VerdictNoise):
    """Each verdict plus `sigma` times a standard normal number, by sample, step and index in the group (ours)."""

    sigma: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < float("inf"):
            raise ValueError(f"sigma must be 0 or more, not {self.sigma}")

    def corrupt_verdict(self, value: float, prompt: Prompt, completion: Completion, index: int, step: int) -> float:
        from scipy.special import ndtri

        u = uniform_hash(self.seed, "gaussian", prompt.id, step, index)
        return value + self.sigma * float(ndtri(max(u, SMALLEST_U)))

    def youden_j(self, num_options: int = 4) -> float:
        """1: the added noise has mean 0, so only the variance grows."""
        return 1.0


@dataclass(frozen=True)
class HeavyTailed(VerdictNoise):
    """Each verdict plus `scale` times Student's t, by sample, step and index (ours): at `df` 2, no finite variance."""

    scale: float = 0.0
    df: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.scale < float("inf"):
            raise ValueError(f"scale must be 0 or more, not {self.scale}")
        if not self.df > 1:
            raise ValueError(f"df must be above 1, or the noise has no mean; not {self.df}")

    def corrupt_verdict(self, value: float, prompt: Prompt, completion: Completion, index: int, step: int) -> float:
        from scipy.special import stdtrit

        u = uniform_hash(self.seed, "heavy_tailed", prompt.id, step, index)
        return value + self.scale * float(stdtrit(self.df, max(u, SMALLEST_U)))

    def youden_j(self, num_options: int = 4) -> float:
        """1: the added noise has mean 0."""
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

    def corrupt_verdict(self, value: float, prompt: Prompt, completion: Completion, index: int, step: int) -> float:
        if not 0 <= value <= 1:
            raise UserError(f"judge_confusion: {self.column} gave sample {prompt.id} {value}, off the rubric of 0 to 1")
        key = self.seed, "judge_confusion", prompt.id, completion.text
        if uniform_hash(*key) >= self.rate:
            return value
        level = round(value * (self.levels - 1))
        other_levels = [other for other in range(self.levels) if other != level]
        chosen = other_levels[int(uniform_hash(*key, "to") * len(other_levels))]
        return chosen / (self.levels - 1)

    def youden_j(self, num_options: int = 4) -> float:
        """1 - rate K / (K - 1) for K levels: the mean of the other levels falls as the true level rises."""
        return 1 - self.rate * self.levels / (self.levels - 1)


@dataclass(frozen=True)
class LengthBias(VerdictNoise):
    """Each verdict plus `kappa` for every 100 tokens: the verbosity bias of judges (arXiv:2306.05685)."""

    kappa: float = 0.0

    def corrupt_verdict(self, value: float, prompt: Prompt, completion: Completion, index: int, step: int) -> float:
        return value + self.kappa * len(completion.tokens) / 100


VERDICT_NOISES: dict[str, type[Noise]] = {
    "verifier": Verifier,
    "group_flip": GroupFlip,
    "gaussian": Gaussian,
    "heavy_tailed": HeavyTailed,
    "judge_confusion": JudgeConfusion,
    "length_bias": LengthBias,
}
