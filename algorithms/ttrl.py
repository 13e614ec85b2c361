"""Test-time RL: the group's majority answer is the label (Zuo et al. 2025, arXiv:2504.16084)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from algorithms._robust import OutcomeAlgorithm, majority_vote, verdicts_by_label
from algorithms.grpo import GRPO
from rlvid.types import Step


@dataclass(frozen=True)
class TTRL(GRPO, OutcomeAlgorithm):
    """GRPO with r = 1 if a completion names the most frequent letter of its group. It reads no labels.

    The paper votes over 64 completions and trains on 32 of them; ours votes over the G that it trains on. If two
    letters tie, all completions earn 0. A wrong majority is reinforced: this is a control for what noise can do.
    """

    def labels(self, step: Step) -> Sequence[str | None]:
        """Return (P,) the majority of each group, None where there is none."""
        return [majority_vote(letters) for letters in step.answers]

    def rewards(self, step: Step) -> Tensor:
        """Return the (P, G) totals, with the outcome judged by the majority."""
        return super().rewards(self.with_outcome(step, verdicts_by_label(step, self.labels(step))))
