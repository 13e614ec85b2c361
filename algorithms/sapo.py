"""Soft adaptive policy optimization: a smooth gate instead of the clip (2025, arXiv:2511.20347)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from algorithms._unused import refuse_unused
from algorithms.grpo import GRPO
from rlvid.algorithm import Losses
from rlvid.types import Batch


@dataclass(frozen=True)
class SAPO(GRPO):
    """surrogate = f(rho) A with f(x) = 4/tau sigmoid(tau (x - 1)); tau differs by the sign of A.

    f'(1) = 1, so the gradient on the first optimizer step of a batch is the policy gradient. Defaults are TRL's.
    """

    beta: float = 0.0
    temperature_pos: float = 1.0
    temperature_neg: float = 1.05

    def __post_init__(self) -> None:
        super().__post_init__()
        unused = ("epsilon", "epsilon_high", "delta")
        refuse_unused(self, unused, "a smooth gate takes the place of the clip: set temperature_pos or temperature_neg")
        if min(self.temperature_pos, self.temperature_neg) <= 0:
            raise ValueError(
                f"temperatures must be above 0, not {self.temperature_pos} (pos) and {self.temperature_neg} (neg)"
            )

    def surrogate(self, logps: Tensor, batch: Batch) -> Losses:
        """Return the gated surrogate, (B, T); its gradient is never exactly 0."""
        tau = torch.where(batch.advantages > 0, self.temperature_pos, self.temperature_neg)
        gate = torch.sigmoid(tau * (self.ratio(logps, batch) - 1)) * 4 / tau
        return gate * batch.advantages, {}
