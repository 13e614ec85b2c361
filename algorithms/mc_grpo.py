"""Median-centred GRPO, guarded where the median deviation is small (Kim 2026, arXiv:2601.22582)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from algorithms._robust import by_group
from algorithms.grpo import GRPO


@dataclass(frozen=True)
class MCGRPO(GRPO):
    """A = (R - median) / (MAD + 1e-3), MAD the median of |R - median|; where MAD < std / 2, the standard deviation.

    Without that guard, the published code's credit is 1000 for one success in eight: more than half of a group that
    agrees has MAD = 0, or nearly 0 where another reward tells its replies apart a little. Guarded, it is at most twice
    what it is in units of the standard deviation, and the minority of a one-sided group has nearly all of it. The paper
    samples G + 1 replies and drops the median one, which has no credit; ours keeps all G.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        by_group(self)

    def advantages(self, rewards: Tensor) -> Tensor:
        """(P, G) rewards -> (P, G)."""
        deviation = rewards - rewards.quantile(0.5, dim=-1, keepdim=True)
        spread = deviation.abs().quantile(0.5, dim=-1, keepdim=True)
        usual = rewards.std(-1, keepdim=True)
        return deviation / (torch.where(spread < usual / 2, usual, spread) + 1e-3)
