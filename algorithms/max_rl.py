"""Maximum-likelihood RL: divide the credit by the group's mean (Tajwar et al. 2026, arXiv:2602.02710)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from algorithms._unused import refuse_unused
from algorithms.grpo import GRPO
from rlvid.algorithm import Algorithm

FLOOR = 1e-6  # of a group's mean


@dataclass(frozen=True)
class MaxRL(GRPO):
    """A = (R - mean) / mean over the group: prompts are weighted by about 1 / pass rate, as by log-likelihood.

    Made for rewards that are not negative, ideally 0 or 1. A group whose mean is not above 1e-6 has no
    credit: where rewards of both signs cancel, a rounding error would be the divisor.
    """

    beta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unused(self, ["scale_rewards"], "credit is divided by the group's mean: leave it out")

    weights = Algorithm.weights  # 1 / (number of tokens in the minibatch)

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return (P, G) advantages for (P, G) rewards."""
        mean = rewards.mean(-1, keepdim=True)
        divisor = mean.where(mean > FLOOR, torch.ones_like(mean))
        return torch.where(mean > FLOOR, (rewards - mean) / divisor, 0.0)
