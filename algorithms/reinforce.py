"""REINFORCE with the step's mean reward as baseline (Williams 1992, doi:10.1007/BF00992696)."""

from dataclasses import dataclass

from torch import Tensor

from rlvid.algorithm import Algorithm


@dataclass(frozen=True)
class Reinforce(Algorithm):
    """A = R - mean over the whole step; gain = A log pi, summed over a completion's tokens, mean over completions.

    There is no group baseline: an easy prompt's completions all gain, a hard one's all lose.
    """

    def advantages(self, rewards: Tensor) -> Tensor:
        """(P, G) rewards -> (P, G): each against the step's mean."""
        return rewards - rewards.mean()

    def weights(self, mask: Tensor) -> Tensor:
        """(B, T) -> (B, T): 1/B for every token."""
        return mask / len(mask)
