"""Group sequence policy optimisation: one ratio for a whole completion (Zheng et al. 2025, arXiv:2507.18071)."""

from dataclasses import dataclass

from torch import Tensor

from algorithms.grpo import GRPO
from rlvid.algorithm import old_logps
from rlvid.types import Batch


@dataclass(frozen=True)
class GSPO(GRPO):
    """rho = exp(mean over the completion's tokens of log pi - log pi_old), clipped as a whole.

    With one optimiser step per batch rho is 1 and this is GRPO: hence the paper's four minibatches.
    """

    beta: float = 0.0
    epsilon: float = 3e-4
    epsilon_high: float | None = 4e-4
    num_minibatches: int = 4

    def ratio(self, logps: Tensor, batch: Batch) -> Tensor:
        """(B, T): the completion's ratio at each of its tokens."""
        change = (logps - old_logps(logps, batch)) * batch.mask
        mean = change.sum(-1, keepdim=True) / batch.mask.sum(-1, keepdim=True).clamp(min=1)
        return mean.exp().expand_as(logps)
