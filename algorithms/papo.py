"""PAPO: a bonus for tokens whose probability depends on the pixels (2025, arXiv:2507.06448)."""

from dataclasses import dataclass

from torch import Tensor

from algorithms._visual import dependence
from algorithms.grpo import GRPO
from rlvid.algorithm import Losses
from rlvid.types import Batch


@dataclass(frozen=True)
class PAPO(GRPO):
    """GRPO plus a bonus for tokens that depend on the pixels: `perception_coef` times exp(d) - d - 1 for each token.

    d is the token's log-prob under `view`, an altered view of the clip, minus that with the clip itself. Averaged over
    sampled tokens, exp(d) - d - 1 estimates KL(policy with the clip || policy with the view). The bonus has the
    gradient (1 - p_view / p) grad log pi: it raises tokens that the pixels speak for and lowers the others, in flat
    groups, too, and whatever the reward. p_view is that of the policy before its update and has no gradient. It is at
    most 10 per token, where its gradient is 0; a large coefficient may still ruin the policy.

    Ours differs from the released code. The view is drawn on the resized frames, of images and of videos. Its "double
    entropy" loss is the mean of -log p and -log p_view over the sampled tokens: the second is a constant, and the first
    has the expected gradient 0 on-policy. Ours is `entropy_coef`; a penalty, as theirs, is a negative one. Defaults are
    those of its GRPO with 3B parameters, except for two things, in which ours is `grpo`, so that arms differ in what is
    named here alone: its script averages the loss over all tokens, ours over completions, and it has a dual clip at 3,
    which is `delta = 3.0` here (the same formula for a `delta` above the upper clip).
    """

    beta: float = 0.01
    epsilon_high: float | None = 0.3
    perception_coef: float = 0.02
    view: str = "patches:0.6"

    @property
    def needs(self) -> frozenset[str]:
        """The reference's log-probs with a KL, and the policy's under the view."""
        return super().needs | {f"view_logps:{self.view}"}

    def surrogate(self, logps: Tensor, batch: Batch) -> Losses:
        """Return GRPO's surrogate plus the bonus, (B, T)."""
        objective, log = super().surrogate(logps, batch)
        bonus = dependence(logps, batch.view_logps[self.view])
        return objective + self.perception_coef * bonus, log | {"credit/dependence": bonus}
