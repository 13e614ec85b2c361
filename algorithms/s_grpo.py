"""GRPO that trusts verdicts as far as they correlate with the truth (Shen et al. 2025, arXiv:2508.05928)."""

from dataclasses import dataclass

from algorithms._robust import LabelNoiseChannel, center, require_group_scaling, verdict_correlation
from algorithms.grpo import GRPO
from rlvid.algorithm import with_advantages
from rlvid.types import Batch, Step


@dataclass(frozen=True)
class SGRPO(GRPO, LabelNoiseChannel):
    """A = w (r - mean) / (std + 1e-8), w = J sqrt(t (1 - t) / (m (1 - m))), t = clip((m - fp) / J), m the group's mean.

    w is the correlation of clean and noisy verdicts within the group (`verdict_correlation`), which needs no symmetric
    noise. The paper's symmetric flips with probability p are `false_positives` = `false_negatives` = p (its scripts:
    0.1), where w is its w* = (1 - 2p) t (1 - t) / (sqrt(m (1 - m)) sqrt(t (1 - t))). With both rates at 0 this is GRPO.
    w is small for one success in eight: these are the groups that noise explains best and, on hard prompts, the most
    informative ones.

    With `wrong_labels`, w is `label_slope`, for labels that are wrong for a whole group. There the paper's w is
    smallest for groups in which many completions are accepted, whose labels are right most often.

    The released code has the loss of `dr_grpo`, divided by a constant length, no KL (`beta = 0.0`), and scores
    truncated replies 0. Ours keeps the loss of `grpo`, a mean over completions, and its `beta`, so that the two differ
    in the credit alone, and scores truncated replies like others.

    In a mix, w shrinks only the outcome's part of the credit; all of it is divided by the standard deviation of the
    total.
    """

    false_positives: float = 0.1
    false_negatives: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_group_scaling(self)

    def credit(self, step: Step) -> Batch:
        """Return the batch with (B, T) advantages, in which the outcome's part is shrunk."""
        verdicts, rewards = self.verdicts(step), self.rewards(step) - self.kl_penalty(step)
        w = self.label_slope(step) if self.wrong_labels else verdict_correlation(verdicts, *self.error_rates(step))
        removed = (1 - w) * step.reward_weights[self.outcome] * center(verdicts)
        return with_advantages(step, (center(rewards) - removed) / (rewards.std(-1, keepdim=True) + 1e-8))
