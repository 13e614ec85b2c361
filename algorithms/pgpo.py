"""PGPO: weigh each token's credit by its dependence on the pixels, at constant total (2026, arXiv:2604.01840)."""

from dataclasses import dataclass, replace

from torch import Tensor

from algorithms._visual import dependence, min_max
from algorithms.dapo import DAPO
from rlvid.types import Batch, Step

FLOOR = 1e-6  # a smaller range of log(1 + S) is rounding


@dataclass(frozen=True)
class PGPO(DAPO):
    """DAPO with A_it = w_it A_i, where w falls below 1 on tokens that do not depend on the pixels.

    S_it = exp(d) - d - 1, at most 10, says how far token t of completion i does: d is its log-prob under `view`, an
    altered view of the clip, minus that with the clip itself, both by the policy before its update. I is log(1 + S),
    scaled to [0, 1] over the completion. Below the threshold w is I / threshold, and above it
    1 + boost (I - threshold) / (1 - threshold), scaled so that the completion's weights sum to its length. Where
    log(1 + S) of a completion ranges over less than 1e-6, all w are 1.

    After an unofficial re-implementation, since we know of no training code of the authors. It cuts the attention to
    all visual tokens; our view "blank" keeps the tokens and makes their pixels grey. The floor is ours.
    """

    view: str = "blank"
    threshold: float = 0.4
    boost: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.threshold < 1 or self.boost < 0:
            raise ValueError(f"threshold must be in (0, 1), boost 0 or more, not {self.threshold}, {self.boost}")

    @property
    def needs(self) -> frozenset[str]:
        """The policy's log-probs before its update, with the clip and under the view."""
        return super().needs | {"old_logps", f"view_logps:{self.view}"}

    def credit(self, step: Step) -> Batch:
        """Return the batch with (B, T) advantages."""
        batch = super().credit(step)
        assert batch.old_logps is not None
        scores = dependence(batch.old_logps, batch.view_logps[self.view])
        return replace(batch, advantages=batch.advantages * self.token_weights(scores, batch.mask))

    def token_weights(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Return (B, T) factors of the advantages, for (B, T) scores of 0 or more and a mask."""
        importance, is_spread = min_max(scores.log1p(), mask, FLOOR)
        above = 1 + self.boost * (importance - self.threshold) / (1 - self.threshold)
        weights = (importance / self.threshold).where(importance < self.threshold, above) * mask
        scaled = weights * mask.sum(-1, keepdim=True) / weights.sum(-1, keepdim=True).clamp(min=FLOOR)
        return scaled.where(is_spread, mask)
