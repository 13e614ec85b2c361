"""Test-time RL: the group's majority answer is the label (Zuo et al. 2025, arXiv:2504.16084)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from algorithms._robust import Outcome, agreement, majority
from algorithms.grpo import GRPO
from rlvid.types import Step


@dataclass(frozen=True)
class TTRL(GRPO, Outcome):
    """r = 1 where a reply names the letter that most of its group name; the data set's labels are never read.

    The paper votes over 64 replies and trains on 32 of them; ours votes over the G that it trains on. Where two letters
    tie, nobody has earned anything. A majority that is wrong is reinforced: a control that says what noise can do.
    """

    def labels(self, step: Step) -> Sequence[str | None]:
        """(P,) each group's majority, None where there is none."""
        return [majority(letters) for letters in step.answers]

    def rewards(self, step: Step) -> Tensor:
        """(P, G): the total, with the outcome judged by the majority."""
        return super().rewards(self.with_outcome(step, agreement(step, self.labels(step))))
