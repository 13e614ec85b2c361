"""VPPO: credit on the tokens and completions that depend on the pixels (2025, arXiv:2510.09285)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from algorithms._visual import dependence, min_max
from algorithms.dapo import DAPO
from rlvid.types import Batch, Step

FLOOR = 1e-6  # a smaller range of mean dependence is rounding


@dataclass(frozen=True)
class VPPO(DAPO):
    """DAPO with A_it = f_i m_it A_i: more credit for tokens t and completions i that depend on the pixels.

    S_it = exp(d) - d - 1, at most 10, says how far token t of completion i does so: d is its log-prob under `view`, an
    altered view of the clip, minus that with the clip itself, both by the policy before its update. m_it is 1
    on the `share` of the completion's tokens with the highest S, ties included, and 0 on the others. They still count
    in the mean over tokens, so that the step is smaller. f_i = f_min + n_i (1 - f_min) / mean(n), where n_i is the mean
    of S over the completion, scaled to [0, 1] over the step; its mean is 1. It is 1 for all where the range of the
    means is below 1e-6, as where a view changes nothing.

    Ours differs from the released code. That keeps exactly the number of tokens that the share gives, by rank: of equal
    S it takes some, and ours all. The range and mean(n) are those of the step, and not of a device's minibatch and of a
    micro-batch, where the gradient would depend on the split. Videos are altered, too; there, only images are. The view
    is drawn once per prompt, not per completion. Its "entropy penalty" of 0.06 is the mean of -log pi over the sampled
    tokens, whose expected gradient is 0 on-policy; ours is `entropy_coef`, and a penalty is a negative one. Its dual
    clip at 3 is `delta = 3.0` here, the same formula for a `delta` above the upper clip; ours has none by default, as
    `dapo`, so that the two differ in the credit alone.
    """

    view: str = "patches"  # each square black with probability 0.5
    share: float = 0.4
    min_factor: float = 0.9  # 1: all completions have the same factor

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= 1 or not 0 <= self.min_factor <= 1:
            raise ValueError(f"share must be in (0, 1], min_factor in [0, 1], not {self.share}, {self.min_factor}")

    @property
    def needs(self) -> frozenset[str]:
        """The policy's log-probs before its update, with the clip and under the view."""
        return super().needs | {"old_logps", f"view_logps:{self.view}"}

    def credit(self, step: Step) -> Batch:
        """Return the batch with (B, T) advantages."""
        batch = super().credit(step)
        assert batch.old_logps is not None
        scores = dependence(batch.old_logps, batch.view_logps[self.view]) * batch.mask
        factors = completion_factors(scores.sum(-1) / batch.mask.sum(-1).clamp(min=1), self.min_factor)
        return replace(batch, advantages=batch.advantages * top_of_each(scores, batch.mask, self.share) * factors)

    def extra_metrics(self, batch: Batch) -> dict[str, float]:
        """Return `credit/dependence`: the mean `dependence` of the step's tokens on the pixels."""
        assert batch.old_logps is not None
        scores = dependence(batch.old_logps, batch.view_logps[self.view]) * batch.mask
        return {"credit/dependence": (scores.sum() / batch.mask.sum().clamp(min=1)).item()}


def completion_factors(means: Tensor, min_factor: float) -> Tensor:
    """Return (B, 1) factors of mean 1, for the (B,) mean dependence of the completions.

    >>> completion_factors(torch.tensor([0.0, 0.0, 1.0]), 0.9).flatten()
    tensor([0.9000, 0.9000, 1.2000])
    """
    scaled, is_spread = min_max(means, torch.ones_like(means), FLOOR)
    factors = min_factor + scaled * (1 - min_factor) / scaled.mean().clamp(min=FLOOR)
    return factors.where(is_spread, torch.ones(()))[:, None]


def top_of_each(scores: Tensor, mask: Tensor, share: float) -> Tensor:
    """Return the mask of the ceil(share * tokens) tokens of each row with the highest scores, and of ties with them.

    >>> top_of_each(torch.tensor([[0.1, 0.5, 0.3, 0.2, 0.0]]), torch.ones(1, 5), 0.4)
    tensor([[0., 1., 1., 0., 0.]])
    """
    exact = (share * mask.sum(-1, keepdim=True).double()).round(decimals=9)  # rounded, as 0.3 * 50 is not 15 in floats
    count = exact.ceil().long().clamp(min=1)  # (B, 1)
    ranked = scores.masked_fill(mask == 0, -torch.inf).sort(-1, descending=True).values
    return (scores >= ranked.gather(-1, count - 1)) * mask
