"""Is the video's order used? A bonus where right answers are rarer with shuffled frames (T-GRPO, arXiv:2503.21776).

With p and q the shares of right answers with the frames in order and shuffled: +`bonus` for each right answer if
p >= `threshold` q, else 0. With `margin`: +`bonus` max(0, p - q), so that no better than shuffled earns nothing.

Known flaws of the published form, kept: the threshold of 0.8 (the paper says 1) pays where shuffled is better; and the
bonus is the same for all right answers of a group, so that a group's normalisation cancels it if rewards are otherwise
two-valued (Video-R1's issue 51). So is the margin: both need an algorithm that does not divide by the spread, like
`dr_grpo`, where they weigh questions. `grounding_counterfactual` tells right answers of a group apart.

The replies under shuffled frames are as many as `evidence.view_generations` says; Video-R1 takes half the group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from rlvid.reward import Column
from rlvid.types import Group


@dataclass(frozen=True)
class GroundingTemporal:
    """From 0 to `bonus`; None where there is no video to shuffle, or accuracy does not apply."""

    bonus: float = 0.3
    threshold: float = 0.8
    margin: bool = False

    needs: ClassVar[frozenset[str]] = frozenset({"view:shuffled", "column:accuracy"})

    def __call__(self, groups: Sequence[Group]) -> Column:
        """One row per group."""
        return [self.score(group) if group.prompt.video else [None] * len(group) for group in groups]

    def score(self, group: Group) -> list[float | None]:
        """A group's row."""
        columns = group["accuracy"], group.evidence["view:shuffled"]["accuracy"]
        p, q = (fmean(right or 0.0 for right in column) for column in columns)
        pays = self.bonus * (max(0.0, p - q) if self.margin else float(p >= self.threshold * q))
        return [None if right is None else pays * (right > 0.1) for right in group["accuracy"]]
