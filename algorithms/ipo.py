"""Identity preference optimization: reach a margin, do not exceed it (Azar et al. 2023, arXiv:2310.12036)."""

from dataclasses import dataclass

from torch import Tensor

from algorithms.dpo import DPO


@dataclass(frozen=True)
class IPO(DPO):
    """loss = (h - 1 / (2 beta))^2, where h compares means of log pi/pi_ref over a completion's tokens, as in TRL.

    `beta` is the paper's tau. A preference that is certain in the data cannot drive the policy to certainty.
    """

    def scores(self, log_ratios: Tensor, mask: Tensor) -> Tensor:
        """Return the (B,) means over tokens, for (B,) sums."""
        return log_ratios / mask.sum(-1).clamp(min=1)

    def pair_loss(self, margins: Tensor) -> Tensor:
        """Return the (B, G) loss of each pair, for (B, G) margins h."""
        return (margins - 1 / (2 * self.beta)).square()
