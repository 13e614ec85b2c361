"""Robust DPO: unbiased if a known share of preferences is flipped (Chowdhury et al. 2024, arXiv:2403.00409)."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from algorithms.cdpo import CDPO


@dataclass(frozen=True)
class RDPO(CDPO):
    """loss = (-(1 - e) log sigmoid(beta h) + e log sigmoid(-beta h)) / (1 - 2e), where e is that of `cdpo`.

    Its expectation over flips is DPO's loss on the true order. It has no minimum: it falls as long as h rises.
    """

    def pair_loss(self, margins: Tensor) -> Tensor:
        """Return the (B, G) loss of each pair, for (B, G) margins h."""
        kept, flipped = logsigmoid(self.beta * margins), logsigmoid(-self.beta * margins)
        return (self.epsilon * flipped - (1 - self.epsilon) * kept) / (1 - 2 * self.epsilon)
