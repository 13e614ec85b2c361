"""Maximum-likelihood RL: credit is divided by the group's mean (Tajwar et al. 2026, arXiv:2602.02710)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from algorithms.grpo import GRPO
from rlvid.algorithm import Algorithm


@dataclass(frozen=True)
class MaxRL(GRPO):
    """A = (R - mean) / mean over the group: hard prompts weigh about 1 / pass rate, as log-likelihood would weigh them.

    Made for rewards that are not negative, 0 or 1 at best; a group whose mean is not above 0 has no credit.
    """

    beta: float = 0.0

    weights = Algorithm.weights  # one over the number of tokens, for each

    def advantages(self, rewards: Tensor) -> Tensor:
        """(P, G) rewards -> (P, G)."""
        mean = rewards.mean(-1, keepdim=True)
        return torch.where(mean > 0, (rewards - mean) / mean.where(mean > 0, torch.ones_like(mean)), 0.0)
