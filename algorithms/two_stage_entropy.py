"""Two stages of entropy against noise: explore first, commit later (2025, arXiv:2511.07738)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from algorithms.grpo import GRPO
from rlvid.algorithm import Losses
from rlvid.types import Batch, Step


@dataclass(frozen=True)
class TwoStageEntropy(GRPO):
    """loss = GRPO's - c H, with c = `first_coef` up to the `switch` and `second_coef` after it.

    H is the policy's entropy over all tokens that can be sampled, with the token weights of GRPO: a mean over rows of
    means over tokens. A positive c raises entropy and a negative one lowers it. The last step of the first stage is
    `switch` times the run's number of steps, rounded: 0 is the second stage alone, 1 the first alone.

    After third-party notes on the paper, since we know of no code of its authors: the form and the switch at 80 % are
    from there. We do not know the paper's coefficients; ours are not tuned. Entropy is changed in flat groups, too.
    """

    first_coef: float = 0.01
    second_coef: float = -0.01
    switch: float = 0.8  # share of the run's steps

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.switch <= 1:
            raise ValueError(f"switch must be in [0, 1], not {self.switch}")
        if self.entropy_coef:
            raise ValueError("first_coef and second_coef take the place of entropy_coef")

    def coefficient(self, step: Step) -> float:
        """Return c of a step."""
        return self.first_coef if step.number <= round(self.switch * step.max_steps) else self.second_coef

    def credit(self, step: Step) -> Batch:
        """Return the batch with GRPO's advantages and, as targets, c at each token, (B, T) each."""
        return replace(super().credit(step), targets=torch.full_like(step.batch.mask, self.coefficient(step)))

    def surrogate(self, logps: Tensor, batch: Batch) -> Losses:
        """Return GRPO's surrogate plus c H, (B, T)."""
        objective, log = super().surrogate(logps, batch)
        assert batch.targets is not None and batch.entropy is not None
        return objective + batch.targets * batch.entropy, log
