"""Does the same thought lead to the same option when the options are reshuffled and the video is gone (ACRE)?

r = 1 where the answer is right and the policy picks the same option from its thought alone, options reordered; else 0.
With `accuracy` in the mix, right but not reproduced earns less than both and more than wrong: the grades that ACRE
(Huang et al. 2025, arXiv:2510.10104) puts into one number. A letter named in the thought is of no use, as every option
has moved. Known hack: a thought that copies an option's text, with no reason for it, is always reproduced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rewards._consistency import Consistency
from rlvid.reward import Column
from rlvid.types import Group


@dataclass(frozen=True)
class ConsistencyReanswer(Consistency):
    """1 or 0, times accuracy unless `gated` is off."""

    needs: ClassVar[frozenset[str]] = frozenset({"reanswer", "column:accuracy"})

    def agreement(self, groups: Sequence[Group]) -> Column:
        """1 where the second answer is the first."""
        return [
            [
                float(again is not None and again == completion.answer)
                for completion, again in zip(group, group.evidence["reanswer"], strict=True)
            ]
            for group in groups
        ]
