"""CISPO: clip the importance weight, never the gradient (MiniMax-M1 2025, arXiv:2506.13585)."""

from dataclasses import dataclass

from torch import Tensor

from algorithms._unused import refuse_unused
from algorithms.grpo import GRPO
from rlvid.algorithm import Algorithm, Losses
from rlvid.types import Batch


@dataclass(frozen=True)
class CISPO(GRPO):
    """surrogate = stop_gradient(min(rho, ratio_cap)) A log pi, averaged over all tokens of the minibatch.

    The cap is absolute and there is no lower bound, as in TRL (which calls it `epsilon_high`). verl clamps rho to
    [1 - e, 1 + e] instead. The default is that of ScaleRL (arXiv:2510.13786).
    """

    beta: float = 0.0
    ratio_cap: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        unused = ("epsilon", "epsilon_high", "delta")
        refuse_unused(self, unused, "only ratio_cap clips the ratio (TRL calls it epsilon_high): set that")
        if self.ratio_cap <= 0:
            raise ValueError(f"ratio_cap must be above 0, not {self.ratio_cap}")

    weights = Algorithm.weights  # 1 / (number of tokens in the minibatch)

    def surrogate(self, logps: Tensor, batch: Batch) -> Losses:
        """Return REINFORCE with truncated importance weights, (B, T)."""
        ratio = self.ratio(logps, batch).detach()
        capped = ratio.clamp(max=self.ratio_cap)
        return capped * batch.advantages * logps, {"clip_ratio/region_mean": (ratio > capped).float()}
