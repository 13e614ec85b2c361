"""Group-relative policy optimisation (Shao et al. 2024, arXiv:2402.03300)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlvid.algorithm import Algorithm, old_logps
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
    delta: float | None = None  # a cap on rho where A < 0, too (INTELLECT-2's two-sided clip, arXiv:2505.07291)
    scale_rewards: str = "group"  # divide by the standard deviation of the "group", of the "batch", or of "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale_rewards not in ("group", "batch", "none"):
            raise ValueError(f'scale_rewards must be "group", "batch" or "none", not {self.scale_rewards!r}')
        if self.epsilon <= 0:
            raise ValueError(f"epsilon must be above 0, not {self.epsilon}")

    def advantages(self, rewards: Tensor) -> Tensor:
        """(P, G) rewards -> (P, G) z-scores within the group; a flat group has none."""
        centred = rewards - rewards.mean(-1, keepdim=True)
        if self.scale_rewards == "none":
            return centred
        spread = rewards.std(-1, keepdim=True) if self.scale_rewards == "group" else rewards.std()
        return centred / (spread + 1e-4)

    def weights(self, mask: Tensor) -> Tensor:
        """(B, T) -> (B, T): 1/B for each row, shared by its tokens."""
        return mask / mask.sum(-1, keepdim=True).clamp(min=1) / len(mask)

    def ratio(self, logps: Tensor, batch: Batch) -> Tensor:
        """(B, T) rho = pi / pi_old of each token; exactly 1, with a gradient, on the first step of a batch."""
        return (logps - old_logps(logps, batch)).exp()

    def surrogate(self, logps: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """PPO's clipped surrogate (arXiv:1707.06347)."""
        ratio = self.ratio(logps, batch)
        bounded = ratio.clamp(1 - self.epsilon, 1 + (self.epsilon if self.epsilon_high is None else self.epsilon_high))
        capped = ratio if self.delta is None else ratio.clamp(max=self.delta)
        gain = torch.minimum(capped * batch.advantages, bounded * batch.advantages)
        return gain, {"clip_ratio/region_mean": (bounded * batch.advantages < ratio * batch.advantages).float()}
