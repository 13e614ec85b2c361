"""REINFORCE++ with a group baseline (Hu et al. 2025, arXiv:2501.03262)."""

from dataclasses import dataclass

from torch import Tensor

from algorithms.grpo import GRPO
from rlvid.algorithm import Algorithm


@dataclass(frozen=True)
class ReinforcePP(GRPO):
    """A = (R - group mean) / standard deviation of that over the step; PPO's clip, a mean over all tokens, k2 where
    `beta` is set.

    GRPO divides by each group's own spread, which blows up groups that are nearly flat; here all share one. Without the
    group's mean, the paper's first form, it is `reinforce` with whitening, and its KL is `kl = "k1_reward"`.
    """

    beta: float = 0.0
    kl: str = "k2"
    scale_rewards: str = "none"

    weights = Algorithm.weights  # one over the number of tokens, for each

    def advantages(self, rewards: Tensor) -> Tensor:
        """(P, G) rewards -> (P, G): centred in the group, whitened over the step."""
        centred = super().advantages(rewards)
        return centred / (centred.std() + 1e-8)
