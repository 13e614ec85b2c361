"""Backward correction of a verifier with constant error rates (Cai et al. 2025, arXiv:2510.00915: PGBC)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from algorithms._robust import LabelNoiseChannel
from algorithms.dr_grpo import DrGRPO
from rlvid.algorithm import with_advantages
from rlvid.types import Batch, Step


@dataclass(frozen=True)
class Backward(DrGRPO, LabelNoiseChannel):
    """Dr. GRPO on r^ = (r - fp) / J instead of the outcome r, where J = 1 - fp - fn. E[r^ | clean] = clean.

    The correction is affine in r. With the outcome alone in the mix, the credit is Dr. GRPO's times 1 / J; with
    `scale_rewards` "group" or "batch" it is bit for bit the credit without a correction, because z-scores cancel it.
    The correction matters if other rewards are added to the outcome, or if the rates are estimated and change.
    rlvid/trainer/noop_check.py finds out which of these holds.

    With `wrong_labels`, r^ is the expected clean verdict given a label that may be wrong for the whole group
    (`LabelNoiseChannel`), which weighs groups against each other unless `scale_rewards` is "group".
    """

    def rewards(self, step: Step) -> Tensor:
        """Return the (P, G) totals with the corrected outcome."""
        return super().rewards(self.with_outcome(step, self.corrected_verdicts(step)))

    def credit(self, step: Step) -> Batch:
        """Return the batch with (B, T) advantages.

        With z-scores, rewards are first multiplied by J, so that GRPO's constant 1e-4 in the denominator has the same
        effect as on uncorrected verdicts. If all groups share one standard deviation, they also share one J, the median
        of the prompts': each prompt's own would multiply the correction away.
        """
        false_positives, false_negatives = self.error_rates(step)
        j = torch.ones_like(false_positives) if self.wrong_labels else 1 - false_positives - false_negatives  # (P, 1)
        unit = {"none": torch.ones_like(j), "group": j, "batch": j.median()}[self.scale_rewards]
        return with_advantages(step, self.advantages(unit * (self.rewards(step) - self.kl_penalty(step))))
