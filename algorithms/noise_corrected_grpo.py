"""GRPO on noise-corrected verdicts, error rates by prompt (El Mansouri et al. 2025, arXiv:2510.18924)."""

from dataclasses import dataclass

from algorithms._robust import PerLabelNoiseChannel, center, require_group_scaling, verdict_correlation
from algorithms.grpo import GRPO
from rlvid.algorithm import with_advantages
from rlvid.types import Batch, Step


@dataclass(frozen=True)
class NoiseCorrectedGRPO(GRPO, PerLabelNoiseChannel):
    """A = (r^ - mean) / (s + 1e-4), where r^ is that of `noise_corrected_dr_grpo` and s the std of clean verdicts.

    The z-scores of r^ are those of r, so s is what the correction changes. A clean verdict is 1 with probability
    t = mean r^, so its variance is t (1 - t), times Bessel's factor as in GRPO. Ours: t is kept within
    [1 / G, 1 - 1 / G], which is as precise as G verdicts can be; at rates of 0 this is GRPO. In a mix, the deviations
    of the outcome are shrunk to s before the standard deviation of the total is taken.

    s is w times the standard deviation of r^, where w is that of S-GRPO. So A = z / w here and A = z w in S-GRPO: the
    first is unbiased, the second has the least variance. On groups that noise alone may explain, they pull in opposite
    directions.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        require_group_scaling(self)

    def credit(self, step: Step) -> Batch:
        """Return the batch with (B, T) advantages."""
        verdicts, corrected = self.verdicts(step), self.corrected_verdicts(step)
        correlation = verdict_correlation(verdicts, *self.error_rates(step), least=1 / verdicts.shape[-1])  # w
        rewards = self.rewards(self.with_outcome(step, corrected)) - self.kl_penalty(step)
        noise = (1 - correlation) * step.reward_weights[self.outcome] * center(corrected)
        std = (rewards - noise).std(-1, keepdim=True)
        return with_advantages(step, center(rewards) / (std + 1e-4))
