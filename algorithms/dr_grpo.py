"""GRPO without its two biases (Liu et al. 2025, arXiv:2503.20783)."""

from dataclasses import dataclass

from torch import Tensor

from algorithms.grpo import GRPO


@dataclass(frozen=True)
class DrGRPO(GRPO):
    """A = R - mean of the group; the weight of every token is 1 / (B horizon), whatever its completion's length.

    TRL needs two settings for this, `loss_type="dr_grpo"` and `scale_rewards="none"`; the first alone keeps the
    division by the standard deviation. `horizon` is TRL's `max_completion_length`. It is a constant, so it only scales
    the learning rate.
    """

    beta: float = 0.0
    scale_rewards: str = "none"
    horizon: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.horizon < 1:
            raise ValueError(f"horizon must be 1 or more, not {self.horizon}")

    def weights(self, mask: Tensor) -> Tensor:
        """Return the same weight for every token, (B, T)."""
        return mask / (len(mask) * self.horizon)
