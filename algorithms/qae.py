"""Quantile advantage estimation: a quantile of the group as baseline (Wu et al. 2025, arXiv:2509.22611)."""

import math
from dataclasses import dataclass

from torch import Tensor

from algorithms._robust import require_group_scaling
from algorithms.grpo import GRPO


@dataclass(frozen=True)
class QAE(GRPO):
    """A = (R - Q_K) / (std + 1e-4), where Q_K is the smallest R that at least a share K of the group does not exceed.

    With verdicts of 0 and 1 and pass rate p, only successes have credit where p <= 1 - K, and only failures elsewhere.
    So most completions have no credit, and a flipped verdict does not change the credit of the others.
    """

    quantile: float = 0.4  # K

    def __post_init__(self) -> None:
        super().__post_init__()
        require_group_scaling(self)
        if not 0 < self.quantile <= 1:
            raise ValueError(f"quantile must be in (0, 1], not {self.quantile}")

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return (P, G) advantages for (P, G) rewards."""
        rank = math.ceil(
            round(self.quantile * rewards.shape[-1], 9)
        )  # rounded against floating-point error, as in 0.07 * 100
        baseline = rewards.kthvalue(rank, dim=-1, keepdim=True).values
        return (rewards - baseline) / (rewards.std(-1, keepdim=True) + 1e-4)
