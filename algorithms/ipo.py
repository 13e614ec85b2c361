"""Identity preference optimisation: a margin to reach, not to exceed (Azar et al. 2023, arXiv:2310.12036)."""

from dataclasses import dataclass

from torch import Tensor

from algorithms.dpo import DPO


@dataclass(frozen=True)
class IPO(DPO):
    """loss = (h - 1 / (2 beta))^2, with log pi/pi_ref a mean over each completion's tokens, as in TRL.

    `beta` is the paper's tau. A pair that is certain in the data cannot drive the policy to certainty.
    """

    def scores(self, ratios: Tensor, mask: Tensor) -> Tensor:
        """(B,) sums over tokens -> (B,) means."""
        return ratios / mask.sum(-1).clamp(min=1)

    def pair_loss(self, h: Tensor) -> Tensor:
        """(B, G) -> (B, G)."""
        return (h - 1 / (2 * self.beta)).square()
