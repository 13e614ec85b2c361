"""Median-centred GRPO, guarded where the median deviation is small (Kim 2026, arXiv:2601.22582)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from algorithms._robust import require_group_scaling
from algorithms.grpo import GRPO


@dataclass(frozen=True)
class MCGRPO(GRPO):
    """A = (R - median) / (MAD + 1e-3), where MAD is the median of |R - median|; where MAD < std / 2, std replaces it.

    The guard is ours. Without it, the published code gives a credit of 1000 to one success in eight: if more than half
    of a group agrees, MAD is 0, or close to 0 if another reward separates its completions a little. With the guard, the
    credit is at most twice what it is in units of the standard deviation, and the minority of a one-sided group gets
    nearly all of it.

    The paper samples G + 1 completions, an odd number, and drops the median one, whose credit is 0. Ours differs: it
    keeps all G, and for an even G its median is halfway between the two in the middle, so that no completion need have
    a credit of 0 (the released code's torch.median is the lower of the two, a completion's own reward). The released
    code also multiplies the credit of the others by n / n_nonzero, n completions by those whose credit is not 0.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        require_group_scaling(self)

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return (P, G) advantages for (P, G) rewards."""
        deviation = rewards - rewards.quantile(0.5, dim=-1, keepdim=True)
        mad = deviation.abs().quantile(0.5, dim=-1, keepdim=True)
        std = rewards.std(-1, keepdim=True)
        return deviation / (torch.where(mad < std / 2, std, mad) + 1e-3)
