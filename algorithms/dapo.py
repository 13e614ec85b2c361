"""DAPO's loss: clip-higher and a mean over all tokens (Yu et al. 2025, arXiv:2503.14476)."""

from dataclasses import dataclass

from torch import Tensor

from algorithms.grpo import GRPO


@dataclass(frozen=True)
class DAPO(GRPO):
    """GRPO with a higher upper clip, no KL, and equal shares for all tokens of the step.

    The mean is over the whole step and all processes, not over a micro-batch. The paper's other two parts are not here:
    dynamic sampling (drawing until no group is flat; `frac_reward_zero_std` tells how many are) and overlong shaping.
    """

    beta: float = 0.0
    epsilon_high: float | None = 0.28

    def weights(self, mask: Tensor) -> Tensor:
        """(B, T) -> (B, T): one over the number of tokens."""
        return mask / mask.sum().clamp(min=1)
