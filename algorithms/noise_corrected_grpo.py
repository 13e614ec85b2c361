"""GRPO on verdicts freed of noise, at rates that differ by prompt (El Mansouri et al. 2025, arXiv:2510.18924)."""

from dataclasses import dataclass

from algorithms._robust import LetterChannel, by_group, centred, laid, shrinkage
from algorithms.grpo import GRPO
from rlvid.types import Batch, Step


@dataclass(frozen=True)
class NoiseCorrectedGRPO(GRPO, LetterChannel):
    """A = (r^ - mean) / (s + 1e-4), r^ as in `noise_corrected_dr_grpo`, s the clean verdicts' standard deviation.

    z-scores of r^ are those of r, so what the correction changes is s. A clean verdict is 1 with probability
    t = mean r^, and its variance t (1 - t), with Bessel's factor as in GRPO. Ours: t is kept within [1 / G, 1 - 1 / G],
    what G verdicts can tell; at rates of 0 this is GRPO. In a mix, the outcome's deviations are shrunk to s before the
    total's are taken.

    s is w times the standard deviation of r^, w being S-GRPO's: so A = z / w where S-GRPO has A = z w. Unbiased here,
    of least variance there: on groups that flips may explain, the two pull in opposite directions.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        by_group(self)

    def credit(self, step: Step) -> Batch:
        """(B, T) advantages."""
        verdicts, clean = self.verdicts(step), self.corrected(step)
        noise = 1 - shrinkage(verdicts, *self.errors(step), least=1 / verdicts.shape[-1])
        rewards = self.rewards(self.with_outcome(step, clean)) - self.kl_penalty(step)
        spread = (rewards - noise * step.reward_weights[self.outcome] * centred(clean)).std(-1, keepdim=True)
        return laid(step, centred(rewards) / (spread + 1e-4))
