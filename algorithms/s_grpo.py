"""GRPO that trusts a group's verdicts as far as they correlate with the truth (Shen et al. 2025, arXiv:2508.05928)."""

from dataclasses import dataclass

from algorithms._robust import Channel, by_group, centred, laid, shrinkage
from algorithms.grpo import GRPO
from rlvid.types import Batch, Step


@dataclass(frozen=True)
class SGRPO(GRPO, Channel):
    """A = w (r - mean) / (std + 1e-8); w = J sqrt(t (1 - t) / (m (1 - m))), m the group's mean, t = clip((m - fp) / J).

    The paper's symmetric flips with probability p are `false_positives` = `false_negatives` = p (its scripts: 0.1),
    where w is its w* = (1 - 2p) t (1 - t) / (sqrt(m (1 - m)) sqrt(t (1 - t))); both rates at 0 are GRPO. w is the
    correlation of clean and noisy verdicts within the group (`shrinkage`), which needs no symmetry. It is small for
    one success in eight: what flips explain best, and on hard prompts the most telling.

    In a mix, w shrinks the outcome's part of the credit only; the total's standard deviation divides all of it.
    """

    false_positives: float = 0.1
    false_negatives: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        by_group(self)

    def credit(self, step: Step) -> Batch:
        """(B, T) advantages, the outcome's part shrunk."""
        verdicts, rewards = self.verdicts(step), self.rewards(step) - self.kl_penalty(step)
        doubt = (1 - shrinkage(verdicts, *self.errors(step))) * step.reward_weights[self.outcome] * centred(verdicts)
        return laid(step, (centred(rewards) - doubt) / (rewards.std(-1, keepdim=True) + 1e-8))
