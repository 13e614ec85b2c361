"""Does the same thought lead to the same option when the options are reshuffled and the video is removed (ACRE)?

r = 1 if the answer is right and the policy picks the same option from its thought alone, with the options in another
order; else 0. With `accuracy` in the mix, an answer that is right but not reproduced earns more than a wrong one and
less than one that is both. ACRE (Huang et al. 2025, arXiv:2510.10104) puts these grades into one number. A letter that
the thought names does not help, because every option has moved.

Known hack: a thought that copies an option's text, without any reason, is always reproduced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rewards._consistency import Consistency
from rlvid.reward import Column
from rlvid.types import Group


@dataclass(frozen=True)
class ConsistencyReanswer(Consistency):
    """1 or 0, times accuracy with `gated`."""

    needs: ClassVar[frozenset[str]] = frozenset({"reanswer", "column:accuracy"})

    def agreement(self, groups: Sequence[Group]) -> Column:
        """Return 1 where the second answer equals the first."""
        return [
            [
                float(second is not None and second == completion.answer)
                for completion, second in zip(group, group.evidence["reanswer"], strict=True)
            ]
            for group in groups
        ]
