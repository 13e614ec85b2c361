"""Video-KTR: learn from key tokens, chosen by pixels, frame order and entropy (2026, arXiv:2601.19686)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from algorithms._visual import top_share
from algorithms.grpo import GRPO
from rlvid.types import Batch, Step
from rlvid.utils.hashing import uniform_hash

CRITERIA = ("visual", "temporal", "entropy")


@dataclass(frozen=True)
class VideoKTR(GRPO):
    """GRPO on tokens that are in the top `share` of their group by at least one criterion; the others have no weight.

    The criteria score a token under the policy before its update. visual: its log-prob with the clip minus that under
    `visual_view`, an altered view of the clip. temporal: the same with `temporal_view`; it chooses nothing where that
    view leaves the clip as it is, as where a prompt has no video, and data without any video are refused. entropy: that
    of the policy before its update. A group's threshold is the (1 - share) quantile of a score over the tokens of all
    its completions. As in the released code, differences have a sign, so tokens that the pixels speak against are not
    chosen; `absolute` drops it, as third-party notes on the paper have it, which we could not check. Weights, and the
    KL with them, are spread over the chosen tokens: 1/rows/chosen tokens of the row; a row without any adds 0 (the
    released code: 0/0). The logged `entropy` is that of the chosen tokens.

    The released code hides visual tokens with the attention mask, which also moves the positions of the text. Our view
    "blank" keeps their number and positions. Its length bonus counts the chosen tokens; ours is the reward `length`.

    `selection` = "random" is the control: as many tokens of each completion, drawn at random.
    """

    share: float = 0.2
    criteria: tuple[str, ...] = ("visual", "temporal", "entropy")
    selection: str = "top"  # or "random"
    absolute: bool = False
    visual_view: str = "blank"
    temporal_view: str = "shuffled"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.criteria or not {*self.criteria} <= {*CRITERIA}:
            raise ValueError(f"criteria must be some of {', '.join(CRITERIA)}, not {list(self.criteria)}")
        if self.selection not in ("top", "random"):
            raise ValueError(f'selection must be "top" or "random", not {self.selection!r}')
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], not {self.share}")

    @property
    def views(self) -> dict[str, str]:
        """Criterion -> its view, for the criteria that compare views."""
        views = {"visual": self.visual_view, "temporal": self.temporal_view}
        return {criterion: views[criterion] for criterion in self.criteria if criterion in views}

    @property
    def needs(self) -> frozenset[str]:
        """The reference's log-probs with a KL, and those of each criterion."""
        compared = {"old_logps", *(f"view_logps:{view}" for view in self.views.values())} if self.views else set()
        return super().needs | compared | ({"old_entropy"} if "entropy" in self.criteria else set())

    def credit(self, step: Step) -> Batch:
        """Return the batch with a mask of the chosen tokens; `targets` is the mask of all."""
        batch = super().credit(step)
        chosen = self.choose(step)
        return replace(batch, advantages=batch.advantages * chosen, mask=chosen, targets=step.batch.mask)

    def choose(self, step: Step) -> Tensor:
        """Return the (B, T) mask of the chosen tokens."""
        batch, groups = step.batch, len(step.ids)
        scores = {criterion: self.difference(batch, view) for criterion, view in self.views.items()}
        if "entropy" in self.criteria:
            assert batch.old_entropy is not None
            scores["entropy"] = batch.old_entropy
        chosen = torch.zeros_like(batch.mask)
        for score in scores.values():
            parts = zip(score.chunk(groups), batch.mask.chunk(groups), strict=True)
            tops = [top_share(part, mask, self.share) * (part * mask).any() for part, mask in parts]
            chosen = torch.maximum(chosen, torch.cat(tops))
        return chosen if self.selection == "top" else draw_as_many(chosen, batch.mask, step)

    def difference(self, batch: Batch, view: str) -> Tensor:
        """Return (B, T) how much likelier the tokens are with the clip than under a view of it."""
        assert batch.old_logps is not None
        difference = batch.old_logps - batch.view_logps[view]
        return difference.abs() if self.absolute else difference

    def extra_metrics(self, batch: Batch) -> dict[str, float]:
        """Return `credit/selected`: the share of tokens that are learnt from."""
        assert batch.targets is not None
        return {"credit/selected": (batch.mask.sum() / batch.targets.sum()).item()}


def draw_as_many(chosen: Tensor, mask: Tensor, step: Step) -> Tensor:
    """Return a mask with as many tokens in each row as `chosen`, at random among the tokens of the mask.

    The random numbers depend on the step's number and samples alone.
    """
    seed = int(uniform_hash("video_ktr", step.number, *step.ids) * 2**32)
    draws = torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed)).masked_fill(mask == 0, -1)
    rank = draws.argsort(-1, descending=True).argsort(-1)
    return (rank < chosen.sum(-1, keepdim=True)).float() * mask
