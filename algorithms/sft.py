"""Supervised fine-tuning: imitate the data set's reasoned answers, completion tokens only."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlvid.algorithm import Algorithm


@dataclass(frozen=True)
class SFT(Algorithm):
    """Maximum likelihood is policy gradient with every demonstration's advantage at 1.

    The mean is over all tokens of the step, as in TRL's SFTTrainer. Rewards are still computed on the demonstrations:
    they say how good the data is.
    """

    @property
    def completion_source(self) -> str:
        """The data set demonstrates."""
        return "data"

    def advantages(self, rewards: Tensor) -> Tensor:
        """(P, 1) rewards -> (P, 1) ones."""
        return torch.ones_like(rewards)
