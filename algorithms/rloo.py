"""REINFORCE with a leave-one-out baseline (Ahmadian et al. 2024, arXiv:2402.14740)."""

from dataclasses import dataclass

from torch import Tensor

from algorithms.grpo import GRPO
from rlvid.algorithm import bounded_exp, old_logps
from rlvid.types import Batch


@dataclass(frozen=True)
class RLOO(GRPO):
    """A = R - mean of the others = G / (G - 1) (R - group mean); the action is the whole completion.

    rho = exp(sum over tokens of log pi - log pi_old), clipped as in PPO and averaged over completions, as in TRL's
    RLOOTrainer. Ours and TRL's both subtract the KL from the reward; TRL's default `beta` is 0.05, ours 0. Ours has no
    rho that overflows: above e^20 it is continued by its tangent. There, that of a long completion may become infinite,
    and the gradient NaN although the completion is clipped.
    """

    beta: float = 0.0
    kl: str = "k1_reward"
    scale_rewards: str = "none"

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return (P, G) rewards minus the mean of the others in the group."""
        count = rewards.shape[-1]
        return super().advantages(rewards) * count / (count - 1)

    def ratio(self, logps: Tensor, batch: Batch) -> Tensor:
        """Return (B, T) the ratio of each completion, at all of its tokens."""
        log_ratio = ((logps - old_logps(logps, batch)) * batch.mask).sum(-1, keepdim=True)
        return bounded_exp(log_ratio).expand_as(logps)
