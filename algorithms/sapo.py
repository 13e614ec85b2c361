"""Soft adaptive policy optimisation: a smooth gate in the place of the clip (2025, arXiv:2511.20347)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from algorithms.grpo import GRPO
from rlvid.types import Batch


@dataclass(frozen=True)
class SAPO(GRPO):
    """gain = f(rho) A with f(x) = 4/tau sigmoid(tau (x - 1)); tau differs by the sign of A.

    f'(1) = 1, so that on the first step of a batch the gradient is the policy gradient. Defaults are TRL's.
    """

    beta: float = 0.0
    temperature_pos: float = 1.0
    temperature_neg: float = 1.05

    def surrogate(self, logps: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The gated surrogate; nothing is ever quite clipped."""
        tau = torch.where(batch.advantages > 0, self.temperature_pos, self.temperature_neg)
        gate = torch.sigmoid(tau * (self.ratio(logps, batch) - 1)) * 4 / tau
        return gate * batch.advantages, {}
