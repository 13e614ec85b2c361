"""REINFORCE++ with a group baseline (Hu et al. 2025, arXiv:2501.03262)."""

from dataclasses import dataclass

from torch import Tensor

from algorithms._unused import refuse_unused
from algorithms.grpo import GRPO
from rlvid.algorithm import Algorithm


@dataclass(frozen=True)
class ReinforcePP(GRPO):
    """A = (R - group mean) / standard deviation of that over the step; PPO's clip, averaged over all tokens.

    With `beta`, the KL is k2. GRPO divides by each group's standard deviation, which inflates the credit of nearly flat
    groups; here all groups share one. It is taken over completions, each counting once, where verl's
    `reinforce_plus_plus_baseline` whitens over tokens: there a completion counts by its length, and the mean that is
    subtracted once more is not 0 if reward and length are correlated. The paper's first form, without the group's mean,
    is `reinforce` with whitening; its KL is `kl = "k1_reward"`.
    """

    beta: float = 0.0
    kl: str = "k2"
    scale_rewards: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unused(self, ["scale_rewards"], "all groups share the standard deviation of the step: leave it out")

    weights = Algorithm.weights  # 1 / (number of tokens in the minibatch)

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return (P, G) rewards, centered in each group and scaled by the standard deviation over the step."""
        centered = super().advantages(rewards)
        return centered / (centered.std() + 1e-8)
