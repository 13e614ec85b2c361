"""Robust DPO: unbiased where a known share of preferences is flipped (Chowdhury et al. 2024, arXiv:2403.00409)."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from algorithms.cdpo import CDPO


@dataclass(frozen=True)
class RDPO(CDPO):
    """loss = (-(1 - e) log sigmoid(beta h) + e log sigmoid(-beta h)) / (1 - 2e); e as in `cdpo`.

    Over flips its mean is DPO's loss on the true order. It has no least value: the further h rises, the lower it is.
    """

    def pair_loss(self, h: Tensor) -> Tensor:
        """(B, G) -> (B, G)."""
        kept, flipped = logsigmoid(self.beta * h), logsigmoid(-self.beta * h)
        return (self.epsilon * flipped - (1 - self.epsilon) * kept) / (1 - 2 * self.epsilon)
