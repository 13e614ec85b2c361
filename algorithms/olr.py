"""Online label refinement by a majority that is stable and rising (Yang et al. 2026, arXiv:2604.03993)."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression

import torch
from torch import Tensor

from algorithms._robust import Outcome, agreement, majority, present
from algorithms.grpo import GRPO
from rlvid.types import Step


@dataclass(frozen=True)
class OLR(GRPO, Outcome):
    """Replies are judged by the data set's label, or by the refined one, once there is one; the rest is GRPO.

    A prompt's majority answer becomes its label when it was the majority in each of its last `visits` visits, the slope
    of its share over them is positive, and its share is now at least `share`. A refined label stays until another
    majority passes. The two conditions are the paper's, the thresholds and the warm-up ours. Nothing can be refined
    before a prompt was seen `visits` times: it takes as many epochs.
    """

    visits: int = 2  # in how many visits to a prompt its majority has to agree
    share: float = 0.5  # of the group, that the majority has to have
    warmup_steps: int = 20  # in these, majorities are only noted

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.visits < 2:
            raise ValueError(f"a slope takes 2 visits or more, not {self.visits}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], not {self.share}")

    def observe(self, step: Step) -> None:
        """Note each group's majority and its share; refine what has become trustworthy."""
        noted, refined = step.memory.setdefault("visits", {}), step.memory.setdefault("refined", {})
        for name, letters in zip(step.ids, step.answers, strict=True):
            letter = majority(letters)
            visits = noted.setdefault(name, [])
            visits.append([letter, letters.count(letter) / len(letters)])
            del visits[: -self.visits]
            if step.number > self.warmup_steps and self.trusted(visits):
                refined[name] = letter

    def trusted(self, visits: Sequence[tuple[str | None, float]]) -> bool:
        """Whether the majority of some visits, [letter, share] each, may be the label."""
        letters, shares = zip(*visits, strict=True)
        stable = len(visits) == self.visits and letters[0] is not None and len(set(letters)) == 1
        return stable and shares[-1] >= self.share and linear_regression(range(self.visits), shares).slope > 0

    def labels(self, step: Step) -> Sequence[str | None]:
        """(P,) the refined label, or the data set's."""
        refined = step.memory.get("refined", {})
        return [refined.get(name, label) for name, label in zip(step.ids, step.labels, strict=True)]

    def rewards(self, step: Step) -> Tensor:
        """(P, G): the total, with the outcome judged anew where the label was refined, and only there."""
        labels = self.labels(step)
        refined = torch.tensor([[new != given] for new, given in zip(labels, step.labels, strict=True)])
        verdicts = torch.where(refined, agreement(step, labels), step.columns[present(step, self.outcome)])
        return super().rewards(self.with_outcome(step, verdicts))
