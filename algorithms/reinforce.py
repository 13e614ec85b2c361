"""REINFORCE with the step's mean reward as baseline (Williams 1992, doi:10.1007/BF00992696)."""

from dataclasses import dataclass

from torch import Tensor

from rlvid.algorithm import Algorithm


@dataclass(frozen=True)
class Reinforce(Algorithm):
    """A = R - mean over the step; surrogate = A log pi, summed over a completion's tokens, averaged over completions.

    There is no group baseline: all completions of an easy prompt are reinforced, all of a hard prompt are suppressed.
    """

    @property
    def flat_group_credit(self) -> str:
        """Why a group of equal total rewards can have credit: the baseline is the mean of the step."""
        return "the baseline is the mean of the step, not of the group"

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return (P, G) rewards minus the mean of the step."""
        return rewards - rewards.mean()

    def weights(self, mask: Tensor) -> Tensor:
        """Return the (B, T) token weights: 1/B for every token."""
        return mask / len(mask)
