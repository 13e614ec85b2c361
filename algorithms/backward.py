"""Backward correction of a verifier that errs at constant rates (Cai et al. 2025, arXiv:2510.00915: PGBC)."""

from dataclasses import dataclass

from torch import Tensor

from algorithms._robust import Channel, laid
from algorithms.dr_grpo import DrGRPO
from rlvid.types import Batch, Step


@dataclass(frozen=True)
class Backward(DrGRPO, Channel):
    """r^ = (r - fp) / J in the place of the outcome r, J = 1 - fp - fn; E[r^ | clean] = clean. The rest is Dr. GRPO.

    Affine in r: with the outcome alone in the mix it is Dr. GRPO's credit times 1 / J, and bit for bit that of z-scores
    with `scale_rewards` "group" or "batch". It matters where other rewards are added to the outcome, or the rates are
    counted and change; `rlvid/trainer/noop_check.py` tells which.
    """

    def rewards(self, step: Step) -> Tensor:
        """(P, G): the total, with the outcome corrected."""
        return super().rewards(self.with_outcome(step, self.corrected(step)))

    def credit(self, step: Step) -> Batch:
        """(B, T) advantages. Z-scores have no unit, but GRPO's guard has: 1e-4 of a verdict, 1e-4 / J of r^."""
        false_positives, false_negatives = self.errors(step)
        unit = 1.0 if self.scale_rewards == "none" else 1 - false_positives - false_negatives
        return laid(step, self.advantages(unit * (self.rewards(step) - self.kl_penalty(step))))
