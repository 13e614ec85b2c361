"""Was the video needed? Right with it, less right without it (the answer gain; compare PAPO, arXiv:2507.06448).

r = max(0, accuracy - accuracy without the video), from 0 to 1. Each completion is compared with its counterpart: the
completion that the same random numbers give for the same prompt without its pixels. So a right answer that would have
come anyway earns nothing, and right answers of one group differ. Completions beyond `evidence.view_generations`, and
those that were sampled under an altered view, which have other random numbers, have no counterpart and are compared
with the mean of the counterparts. Without `paired`, all are. This is less noisy, but it gives the same value to all
right answers of a group, so that a group's normalization cancels it like `grounding_temporal`. With `train.use_vllm`,
whose random numbers belong to a batch, `paired` is refused.

Known hacks: a policy earns more by getting worse at what can be guessed without pixels; chance decides which of two
right answers has the wrong counterpart. PAPO puts the comparison into the loss, as a divergence of token probabilities.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rlvid.reward import Column
from rlvid.types import Group


@dataclass(frozen=True)
class GroundingCounterfactual:
    """From 0 to 1; None if accuracy does not apply, or if there are no pixels. `view` replaces the video."""

    view: str = "blank"  # or "text_only", "image_only"
    paired: bool = True

    @property
    def needs(self) -> frozenset[str]:
        """Completions under the view, and accuracy."""
        return frozenset({f"view:{self.view}", "column:accuracy"})

    def __call__(self, groups: Sequence[Group]) -> Column:
        """Return one row per group."""
        return [self.score(g) if g.prompt.video or g.prompt.image else [None] * len(g) for g in groups]

    def score(self, group: Group) -> list[float | None]:
        """Return the row of a group."""
        blind = [accuracy or 0.0 for accuracy in group.evidence[f"view:{self.view}"]["accuracy"]]
        remaining = iter(blind if self.paired else ())  # in the order in which they were sampled
        mean = fmean(blind)
        counterparts = [mean if completion.view else next(remaining, mean) for completion in group]
        return [
            None if accuracy is None else max(0.0, accuracy - counterpart)
            for accuracy, counterpart in zip(group["accuracy"], counterparts, strict=True)
        ]
