"""Online label refinement by a stable and rising majority (Yang et al. 2026, arXiv:2604.03993)."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression

import torch
from torch import Tensor

from algorithms._robust import OutcomeAlgorithm, answers_by_sample, majority_vote, require_reward, verdicts_by_label
from algorithms.grpo import GRPO
from rlvid.types import Step


@dataclass(frozen=True)
class OLR(GRPO, OutcomeAlgorithm):
    """GRPO whose completions are judged by a refined label, where there is one, else by the data set's label.

    A prompt's majority answer becomes its label if it was the majority at each of the last `visits` visits to the
    prompt, the slope of its share over these visits is positive, and its share is now at least `share`. A refined label
    stays until another majority meets the conditions. The first two conditions are the paper's; the thresholds and the
    warm-up are ours. A prompt that occurs several times in a step is visited once, with the answers of all of its
    groups. So no label can change before its prompt was in `visits` steps, which as a rule takes as many epochs.
    """

    visits: int = 2  # visits to a prompt at which its majority must agree
    share: float = 0.5  # the least share of the group that the majority must have
    warmup_steps: int = 20  # steps in which majorities are recorded only

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.visits < 2:
            raise ValueError(f"a slope takes 2 visits or more, not {self.visits}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], not {self.share}")

    def observe(self, step: Step) -> None:
        """Record the majority of each group and its share, and refine the labels that meet the conditions.

        `step.memory` holds "visits", sample id -> [[letter, share], ...], and "refined", sample id -> letter.
        """
        history, refined = step.memory.setdefault("visits", {}), step.memory.setdefault("refined", {})
        for sample, letters in answers_by_sample(step).items():
            majority = majority_vote(letters)
            visits = history.setdefault(sample, [])
            visits.append([majority, letters.count(majority) / len(letters)])
            del visits[: -self.visits]
            if step.number > self.warmup_steps and self.is_trusted(visits):
                refined[sample] = majority

    def is_trusted(self, visits: Sequence[tuple[str | None, float]]) -> bool:
        """Whether the majority of a prompt's last visits, (letter, share) each, meets the conditions for a label."""
        letters, shares = zip(*visits, strict=True)
        stable = len(visits) == self.visits and letters[0] is not None and len(set(letters)) == 1
        return stable and shares[-1] >= self.share and linear_regression(range(self.visits), shares).slope > 0

    def labels(self, step: Step) -> Sequence[str | None]:
        """Return (P,) the refined label, or the data set's."""
        refined = step.memory.get("refined", {})
        return [refined.get(sample, label) for sample, label in zip(step.ids, step.labels, strict=True)]

    def rewards(self, step: Step) -> Tensor:
        """Return the (P, G) totals, with new verdicts for the prompts whose label was refined."""
        labels = self.labels(step)
        changed = torch.tensor([[new != given] for new, given in zip(labels, step.labels, strict=True)])  # (P, 1)
        given_verdicts = step.columns[require_reward(step, self.outcome)]
        verdicts = torch.where(changed, verdicts_by_label(step, labels), given_verdicts)
        return super().rewards(self.with_outcome(step, verdicts))
