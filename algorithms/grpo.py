"""Group-relative policy optimization (Shao et al. 2024, arXiv:2402.03300)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlvid.algorithm import OWN_ADVANTAGES, Algorithm, Losses, old_logps, per_completion_weights
from rlvid.types import Batch

OWN_SCALE = 'scale_rewards has no effect: set it to "group"'


@dataclass(frozen=True)
class GRPO(Algorithm):
    """A = (R - mean) / (std + 1e-4) over the group; loss = -min(rho A, clip(rho) A) + beta k3.

    All completions have the same weight, spread evenly over their tokens. The standard deviation is Bessel's, as in
    TRL. SEED-Bench-R1's own code updates once per batch, where rho = 1 and nothing is clipped. Ours does the same with
    `num_iterations = 1`.
    """

    beta: float = 0.04
    epsilon: float = 0.2  # rho is clipped to 1 - epsilon and 1 + epsilon
    epsilon_high: float | None = None  # the upper bound, if it differs (DAPO's clip-higher)
    delta: float | None = None  # a cap on rho where A < 0 (INTELLECT-2's two-sided clipping, arXiv:2505.07291)
    scale_rewards: str = "group"  # divide by the standard deviation of the "group", of the "batch", or of "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale_rewards not in ("group", "batch", "none"):
            raise ValueError(f'scale_rewards must be "group", "batch" or "none", not {self.scale_rewards!r}')
        if self.epsilon <= 0:
            raise ValueError(f"epsilon must be above 0, not {self.epsilon}")
        if self.epsilon_high is not None and self.epsilon_high < 0:
            raise ValueError(f"epsilon_high must be 0 or more, not {self.epsilon_high}")
        if self.delta is not None and self.delta <= 0:
            raise ValueError(f"delta must be above 0, not {self.delta}")

    @property
    def ignored_by_gdpo(self) -> str:
        """Advantages that are not GRPO's, or a `scale_rewards` that is not "group"."""
        if type(self).advantages is not GRPO.advantages:
            return OWN_ADVANTAGES
        return "" if self.scale_rewards == "group" else OWN_SCALE

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return the z-scores of (P, G) rewards within each group, 0 where all completions earned the same.

        >>> GRPO().advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]))
        tensor([[ 1.4997, -0.4999, -0.4999, -0.4999],
                [ 0.0000,  0.0000,  0.0000,  0.0000]])
        """
        flat = rewards.amax(-1, keepdim=True) - rewards.amin(-1, keepdim=True) < 1e-9  # as `rlvid.reward.is_flat`
        centered = (rewards - rewards.mean(-1, keepdim=True)).masked_fill(flat, 0.0)  # the mean may be rounded
        if self.scale_rewards == "none":
            return centered
        std = rewards.std(-1, keepdim=True) if self.scale_rewards == "group" else rewards.std()
        return centered / (std + 1e-4)

    def weights(self, mask: Tensor) -> Tensor:
        """Return the (B, T) token weights: 1/B per completion, spread evenly over its tokens."""
        return per_completion_weights(mask)

    def ratio(self, logps: Tensor, batch: Batch) -> Tensor:
        """Return (B, T) rho = pi / pi_old; on a batch's first optimizer step it is exactly 1 and has a gradient."""
        return (logps - old_logps(logps, batch)).exp()

    def surrogate(self, logps: Tensor, batch: Batch) -> Losses:
        """Return PPO's clipped surrogate, (B, T) (arXiv:1707.06347)."""
        advantages, ratio = batch.advantages, self.ratio(logps, batch)
        epsilon_high = self.epsilon if self.epsilon_high is None else self.epsilon_high
        clipped = ratio.clamp(1 - self.epsilon, 1 + epsilon_high)
        capped = ratio if self.delta is None else ratio.clamp(max=self.delta)
        is_clipped = clipped * advantages < ratio * advantages
        return torch.minimum(capped * advantages, clipped * advantages), {"clip_ratio/region_mean": is_clipped.float()}
