"""Group-relative policy optimisation (Shao et al. 2024, arXiv:2402.03300)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlvid.algorithm import Algorithm
from rlvid.types import Batch


@dataclass(frozen=True)
class GRPO(Algorithm):
    """A = (R - mean) / (std + 1e-4) over the group; loss = -min(rho A, clip(rho) A) + beta k3.

    Each completion has the same share, spread over its tokens. The standard deviation is Bessel's, as in TRL.
    SEED-Bench-R1's own code updates once per batch, where rho = 1 and nothing is clipped; so does this at
    `num_iterations = 1`.
    """

    beta: float = 0.04
    epsilon: float = 0.2
    epsilon_high: float | None = None  # the upper bound, where it differs (DAPO's clip-higher)

    def advantages(self, rewards: Tensor) -> Tensor:
        """(P, G) rewards -> (P, G) z-scores within the group; a flat group has none."""
        return super().advantages(rewards) / (rewards.std(-1, keepdim=True) + 1e-4)

    def weights(self, mask: Tensor) -> Tensor:
        """(B, T) -> (B, T): 1/B for each row, shared by its tokens."""
        return mask / mask.sum(-1, keepdim=True).clamp(min=1) / len(mask)

    def ratio(self, logps: Tensor, batch: Batch) -> Tensor:
        """(B, T) pi / pi_old of each token; exactly 1, with a gradient, on the first step of a batch."""
        old = logps.detach() if batch.old_logps is None else batch.old_logps
        return (logps - old).exp()

    def gain(self, logps: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """PPO's clipped surrogate."""
        ratio = self.ratio(logps, batch)
        high = self.epsilon if self.epsilon_high is None else self.epsilon_high
        bounded = ratio.clamp(1 - self.epsilon, 1 + high)
        gain = torch.minimum(ratio * batch.advantages, bounded * batch.advantages)
        clipped = bounded * batch.advantages < ratio * batch.advantages
        return gain, {"clip_ratio/region_mean": clipped.float()}
