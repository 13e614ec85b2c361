"""Trust-GRPO: weigh judged rewards by how well the judge tells right from wrong (Fan et al. 2025, arXiv:2505.17018)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from algorithms._robust import OutcomeAlgorithm, require_reward, without_correction
from algorithms.grpo import GRPO
from rlvid.algorithm import Algorithm
from rlvid.types import Step


@dataclass(frozen=True)
class TrustGRPO(GRPO, OutcomeAlgorithm):
    """GRPO with R = outcome + gamma e^(-step / horizon) judged + others. It needs no error rates.

    gamma = min(1, exp(mean judged score of the group's right completions - that of its wrong ones)). Where all are
    right or all are wrong, the judged reward is not used. Each judged reward has its own gamma and its weight in the
    mix, which is 0.3 in the released code; that code's horizon is our default. The released code scores wrong
    completions 0 without calling the judge; ours has all completions judged. Of a reward that pays only right answers
    (the consistency rewards with `gated`), gamma compares the scores before the gate, and the gated ones are paid:
    behind the gate, wrong completions score 0 and gamma would always be 1. The released code (SophiaVL-R1) averages the
    loss over all tokens; ours keeps that of `grpo`, a mean over completions, so that the two differ in the rewards
    alone.
    """

    judged: tuple[str, ...] = ()  # names of rewards; empty: all but the outcome and "format"
    horizon: float = 500.0  # the number of steps after which a judged reward has 1 / e of its weight

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.horizon <= 0:
            raise ValueError(f"horizon must be above 0, not {self.horizon}")

    @property
    def twin(self) -> Algorithm:
        """The algorithm without its correction, GRPO: the check before step 0 compares their credit."""
        return without_correction(self)

    def rewards(self, step: Step) -> Tensor:
        """Return the (P, G) totals, with judged rewards weighted by trust."""
        right = self.verdicts(step) == 1
        fade = torch.tensor(-step.number / self.horizon).exp()
        judged = self.judged or [name for name in step.reward_weights if name not in (self.outcome, "format")]
        trusted = {}
        for name in judged:
            scores = step.columns[require_reward(step, name)]
            ungated = step.agreements.get(name, scores)
            lead = masked_mean(ungated, right) - masked_mean(ungated, ~right)  # (P, 1), NaN where one side is empty
            gamma = lead.clamp(max=0).exp().nan_to_num(0.0)
            trusted[name] = gamma * fade * scores
        return super().rewards(replace(step, columns={**step.columns, **trusted}))


def masked_mean(column: Tensor, chosen: Tensor) -> Tensor:
    """Return (P, 1) the mean over a group of the chosen values that are not NaN; NaN if there are none."""
    return column.where(chosen, torch.nan).nanmean(-1, keepdim=True)
