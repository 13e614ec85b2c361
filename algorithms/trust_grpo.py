"""Trust-GRPO: judged rewards count as far as the judge prefers right replies (Fan et al. 2025, arXiv:2505.17018)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from algorithms._robust import Outcome, present, uncorrected
from algorithms.grpo import GRPO
from rlvid.algorithm import Algorithm
from rlvid.types import Step


@dataclass(frozen=True)
class TrustGRPO(GRPO, Outcome):
    """R = outcome + gamma e^(-step / horizon) judged + others; then GRPO. No error rates are needed.

    gamma = min(1, exp(mean judged score of the group's right replies - that of its wrong ones)); where all are right
    or all wrong, the judged reward is not used. Each judged reward has its own gamma and its weight in the mix, which
    is 0.3 in the released code, whose `horizon` is ours. That code scores wrong replies 0 unasked; ours has all judged.
    """

    judged: tuple[str, ...] = ()  # which rewards; by default all but the outcome and "format"
    horizon: float = 500.0  # the steps after which a judged reward weighs 1 / e of its weight

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.horizon <= 0:
            raise ValueError(f"horizon must be above 0, not {self.horizon}")

    @property
    def twin(self) -> Algorithm:
        """GRPO, for `rlvid/trainer/noop_check.py`."""
        return uncorrected(self)

    def rewards(self, step: Step) -> Tensor:
        """(P, G): the total, the judged rewards weighed by trust."""
        right, fade = self.verdicts(step) == 1, torch.tensor(-step.number / self.horizon).exp()
        trusted = {}
        for name in self.judged or [name for name in step.reward_weights if name not in (self.outcome, "format")]:
            column = step.columns[present(step, name)]
            ahead = mean(column, right) - mean(column, ~right)
            trusted[name] = ahead.clamp(max=0).exp().nan_to_num(0.0) * fade * column
        return super().rewards(replace(step, columns={**step.columns, **trusted}))


def mean(column: Tensor, chosen: Tensor) -> Tensor:
    """(P, 1): mean of the chosen ones that are numbers; not a number where there are none."""
    return column.where(chosen, torch.nan).nanmean(-1, keepdim=True)
