"""The policy's probability of the right letter after its own reasoning, in whatever form the reply is.

r = p(gold letter | prompt, reasoning) among the options' letters, from 0 to 1; a guess among four is 1/4. The answer's
tag is written for the policy, so that a reply without tags, or with an answer that cannot be read, counts by what it
knows. Beside accuracy it shows how much of a gain is form: use it in `eval.rewards`, or as `Grid(endpoint=...)`.

Known hack: as a training reward it pays nothing for form and for the letter that is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rlvid.reward import Column
from rlvid.types import Group


@dataclass(frozen=True)
class ForcedChoice:
    """From 0 to 1; None if the prompt has no gold letter."""

    needs: ClassVar[frozenset[str]] = frozenset({"forced_probs"})

    def __call__(self, groups: Sequence[Group]) -> Column:
        """Return one row per group."""
        return [self.score(group) for group in groups]

    def score(self, group: Group) -> list[float | None]:
        """Return the row of a group."""
        right = group.prompt.right_option
        if right is None:
            return [None] * len(group)
        return [probs[right] for probs in group.evidence["forced_probs"]]
