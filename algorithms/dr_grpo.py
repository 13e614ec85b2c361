"""GRPO without its two biases (Liu et al. 2025, arXiv:2503.20783)."""

from dataclasses import dataclass

from torch import Tensor

from algorithms.grpo import GRPO


@dataclass(frozen=True)
class DrGRPO(GRPO):
    """A = R - mean; every token's share is 1 / (B horizon), whatever the length of its completion.

    In TRL this takes two settings, `loss_type="dr_grpo"` and `scale_rewards="none"`; the first alone keeps the standard
    deviation. `horizon` is TRL's `max_completion_length`: a constant, so it only scales the learning rate.
    """

    beta: float = 0.0
    scale_rewards: str = "none"
    horizon: int = 256

    def weights(self, mask: Tensor) -> Tensor:
        """(B, T) -> (B, T): the same constant for every token."""
        return mask / (len(mask) * self.horizon)
