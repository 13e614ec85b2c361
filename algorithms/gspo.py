"""Group sequence policy optimization: one ratio per completion (Zheng et al. 2025, arXiv:2507.18071)."""

from dataclasses import dataclass

from torch import Tensor

from algorithms.grpo import GRPO
from rlvid.algorithm import old_logps
from rlvid.types import Batch


@dataclass(frozen=True)
class GSPO(GRPO):
    """rho = exp(mean over the completion's tokens of log pi - log pi_old); the completion is clipped as one unit.

    With one optimizer step per batch rho is 1 and GSPO equals GRPO. This is why the paper uses four minibatches.
    """

    beta: float = 0.0
    epsilon: float = 3e-4
    epsilon_high: float | None = 4e-4
    num_minibatches: int = 4

    def ratio(self, logps: Tensor, batch: Batch) -> Tensor:
        """Return (B, T) the ratio of each completion, at all of its tokens."""
        log_ratio = (logps - old_logps(logps, batch)) * batch.mask
        mean = log_ratio.sum(-1, keepdim=True) / batch.mask.sum(-1, keepdim=True).clamp(min=1)
        return mean.exp().expand_as(logps)
