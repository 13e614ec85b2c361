"""Quantile advantage estimation: a quantile of the group as baseline (Wu et al. 2025, arXiv:2509.22611)."""

import math
from dataclasses import dataclass

from torch import Tensor

from algorithms._robust import by_group
from algorithms.grpo import GRPO


@dataclass(frozen=True)
class QAE(GRPO):
    """A = (R - Q_K) / (std + 1e-4), Q_K the smallest R of the group that a share K of it does not exceed.

    With verdicts of 0 and 1 and pass rate p: where p <= 1 - K only successes have credit, elsewhere only failures. So
    most replies have none, and a flipped verdict spoils no other's credit.
    """

    quantile: float = 0.4  # K

    def __post_init__(self) -> None:
        super().__post_init__()
        by_group(self)
        if not 0 < self.quantile <= 1:
            raise ValueError(f"quantile must be in (0, 1], not {self.quantile}")

    def advantages(self, rewards: Tensor) -> Tensor:
        """(P, G) rewards -> (P, G)."""
        rank = math.ceil(round(self.quantile * rewards.shape[-1], 9))
        baseline = rewards.kthvalue(rank, dim=-1, keepdim=True).values
        return (rewards - baseline) / (rewards.std(-1, keepdim=True) + 1e-4)
