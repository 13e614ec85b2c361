"""Forward correction of a verifier with constant error rates (Cai et al. 2025, arXiv:2510.00915: PGFC)."""

from dataclasses import dataclass, replace

from torch import Tensor

from algorithms._robust import NoiseChannel
from algorithms._unused import refuse_unused
from algorithms.reinforce import Reinforce
from rlvid.types import Step


@dataclass(frozen=True)
class Forward(Reinforce, NoiseChannel):
    """REINFORCE with A = w_r, where w_0 = fn - 1 and w_1 = fn, independent of the other verdicts of the group.

    E[w | right] = 0 and E[w | wrong] = -J: in expectation this is J times the clean gradient with baseline 1. w equals
    r - (1 - fn), so subtracting the group's mean would leave nothing of it. It takes the place of the baseline, and
    groups with equal verdicts have credit. Only `false_negatives` is used. Other rewards of the mix are centred in
    their group.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unused(self, ["false_positives"], "both weights follow from false_negatives: leave it out")

    def rewards(self, step: Step) -> Tensor:
        """Return (P, G) the total of w instead of the outcome, and of the other rewards minus their group's mean."""
        _, false_negatives = self.error_rates(step)
        centered = {name: column - column.nanmean(-1, keepdim=True) for name, column in step.columns.items()}
        outcome = self.verdicts(step) - 1 + false_negatives
        return super().rewards(self.with_outcome(replace(step, columns=centered), outcome))

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return the (P, G) rewards unchanged: there is no baseline."""
        return rewards
