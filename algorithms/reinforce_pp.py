"""REINFORCE++ with a group baseline (Hu et al. 2025, arXiv:2501.03262)."""

from dataclasses import dataclass

from torch import Tensor

from algorithms.dapo import DAPO


@dataclass(frozen=True)
class ReinforcePP(DAPO):
    """A = (R - group mean) / standard deviation of that over the step; PPO's clip, a mean over all tokens.

    GRPO divides by each group's own spread, which blows up groups that are nearly flat; here all share one. The paper's
    KL term is k2; ours, where `beta` is set, is k3.
    """

    epsilon_high: float | None = None
    scale_rewards: str = "none"

    def advantages(self, rewards: Tensor) -> Tensor:
        """(P, G) rewards -> (P, G): centred in the group, whitened over the step."""
        centred = super().advantages(rewards)
        return centred / (centred.std() + 1e-8)
