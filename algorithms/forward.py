"""Forward correction of a verifier that errs at constant rates (Cai et al. 2025, arXiv:2510.00915: PGFC)."""

from dataclasses import dataclass, replace

from torch import Tensor

from algorithms._robust import Channel
from algorithms.reinforce import Reinforce
from rlvid.types import Step


@dataclass(frozen=True)
class Forward(Reinforce, Channel):
    """A = w_r, w_0 = fn - 1, w_1 = fn: whatever the group's other verdicts. The rest is REINFORCE.

    E[w | right] = 0 and E[w | wrong] = -J: in expectation J times the clean gradient with baseline 1. w is r less
    1 - fn, so a group's mean taken off it would leave nothing of it: it stands in the place of the baseline, and a
    group whose verdicts agree has credit. Only `false_negatives` is needed, `false_positives` changes nothing.
    Other rewards of the mix are centred in the group.
    """

    def rewards(self, step: Step) -> Tensor:
        """(P, G): w in the place of the outcome, the others against their group's mean."""
        _, false_negatives = self.errors(step)
        columns = {name: column - column.nanmean(-1, keepdim=True) for name, column in step.columns.items()}
        others = replace(step, columns=columns)
        return super().rewards(self.with_outcome(others, self.verdicts(step) - 1 + false_negatives))

    def advantages(self, rewards: Tensor) -> Tensor:
        """(P, G) as it is: there is no baseline."""
        return rewards
