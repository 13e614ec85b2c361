"""Was the video needed? Right with it, less right without it (the answer gain; compare PAPO, arXiv:2507.06448).

r = max(0, accuracy - accuracy without the video), from 0 to 1. Each reply is compared with its twin: the reply that the
same luck drew for the same prompt without its pixels, so a right answer that would have come anyway earns nothing, and
right answers of one group differ. Replies beyond `evidence.view_generations` have no twin and are compared with the
twins' mean. With `paired` off, all are: less noisy, but the same for all right answers of a group, so that a group's
normalisation cancels it like `grounding_temporal`.

Known hacks: a policy earns more by getting worse at what can be guessed without pixels; luck decides which of two right
answers has the wrong twin. PAPO puts the same question to the loss, as a divergence of token probabilities.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rlvid.reward import Column
from rlvid.types import Group


@dataclass(frozen=True)
class GroundingCounterfactual:
    """From 0 to 1; None where accuracy does not apply, or there are no pixels. `view`: what stands for no video."""

    view: str = "blank"  # or "text_only", "image_only"
    paired: bool = True

    @property
    def needs(self) -> frozenset[str]:
        """The replies under the view."""
        return frozenset({f"view:{self.view}", "column:accuracy"})

    def __call__(self, groups: Sequence[Group]) -> Column:
        """One row per group."""
        return [self.score(g) if g.prompt.video or g.prompt.image else [None] * len(g) for g in groups]

    def score(self, group: Group) -> list[float | None]:
        """A group's row."""
        blind = [right or 0.0 for right in group.evidence[f"view:{self.view}"]["accuracy"]]
        met = blind[: len(group)] if self.paired else []
        twins = met + [fmean(blind)] * (len(group) - len(met))
        return [
            None if right is None else max(0.0, right - twin)
            for right, twin in zip(group["accuracy"], twins, strict=True)
        ]
