"""Is the order of the frames used? A bonus if right answers are rarer with shuffled frames (T-GRPO, arXiv:2503.21776).

With p and q the shares of right answers with ordered and with shuffled frames, each right answer earns +`bonus` if
p >= `threshold` q, else 0. With `margin` it earns `bonus` max(0, p - q), so that a group that does no better than
shuffled earns nothing.

Known flaws of the published form, which ours keeps. The threshold of 0.8 (the paper says 1) also pays where shuffled
frames do better. The bonus is the same for all right answers of a group, so that a group's normalization cancels it if
rewards are otherwise two-valued (Video-R1's issue 51). The same holds for the margin: both need an algorithm that does
not divide by the standard deviation, such as `dr_grpo`, where they weight questions. `grounding_counterfactual` also
separates the right answers of a group.

The number of completions with shuffled frames is `evidence.view_generations`; Video-R1 takes half the group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from rlvid.reward import Column
from rlvid.types import Group


@dataclass(frozen=True)
class GroundingTemporal:
    """From 0 to `bonus`; None if there is no video to shuffle, or if accuracy does not apply."""

    bonus: float = 0.3
    threshold: float = 0.8
    margin: bool = False

    needs: ClassVar[frozenset[str]] = frozenset({"view:shuffled", "column:accuracy"})

    def __post_init__(self) -> None:
        if self.margin and self.threshold != type(self).threshold:
            raise ValueError("threshold has no effect: with margin the bonus is in proportion to p - q; leave it out")

    def __call__(self, groups: Sequence[Group]) -> Column:
        """Return one row per group."""
        return [self.score(group) if group.prompt.video else [None] * len(group) for group in groups]

    def score(self, group: Group) -> list[float | None]:
        """Return the row of a group."""
        p = fmean(accuracy or 0.0 for accuracy in group["accuracy"])
        q = fmean(accuracy or 0.0 for accuracy in group.evidence["view:shuffled"]["accuracy"])
        bonus = self.bonus * (max(0.0, p - q) if self.margin else float(p >= self.threshold * q))
        return [None if accuracy is None else bonus * (accuracy > 0.1) for accuracy in group["accuracy"]]
