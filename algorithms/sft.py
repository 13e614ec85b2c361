"""Supervised fine-tuning: imitate the data set's demonstrations, completion tokens only."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlvid.algorithm import Algorithm


@dataclass(frozen=True)
class SFT(Algorithm):
    """Maximum likelihood, as a policy gradient in which every demonstration has advantage 1.

    The mean is over all tokens of the minibatch, as in TRL's SFTTrainer. Rewards are still computed on the
    demonstrations: they measure the quality of the data.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kl == "k1_reward":
            raise ValueError('rewards are not learnt from, so kl must be a loss, such as "k3", not "k1_reward"')

    @property
    def completion_source(self) -> str:
        """Completions are the demonstrations of the data set; nothing is sampled."""
        return "data"

    @property
    def flat_group_credit(self) -> str:
        """Why a group of equal total rewards can have credit: demonstrations are learnt whatever they earn."""
        return "demonstrations are learnt from whatever they earn, and nothing is sampled"

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return (P, G) ones; G is 1 for demonstrations. Every demonstration is learnt with the same weight."""
        return torch.ones_like(rewards)
