"""The policy's probability of the right letter after its own reasoning: accuracy without sampling noise.

r = p(gold letter | prompt, thought) among the options' letters, from 0 to 1; a guess among four is 1/4. A lucky guess
earns less than a certain answer, so right answers of a group differ.

Known hack: a thought that only names a letter earns as much as one that derives it.

RLPR (arXiv:2506.18254) pays the mean probability of a reference answer's tokens minus its value without reasoning. Ours
is the probability of one letter, and 0 for a reply that names no option.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rlvid.reward import Column
from rlvid.types import Group


@dataclass(frozen=True)
class SoftAccuracy:
    """From 0 to 1; None if the prompt has no gold letter; 0 without a thought or a readable answer."""

    needs: ClassVar[frozenset[str]] = frozenset({"answer_probs"})

    def __call__(self, groups: Sequence[Group]) -> Column:
        """Return one row per group."""
        return [self.score(group) for group in groups]

    def score(self, group: Group) -> list[float | None]:
        """Return the row of a group."""
        right = group.prompt.right_option
        if right is None:
            return [None] * len(group)
        return [
            probs[right] if probs and completion.answer else 0.0
            for completion, probs in zip(group, group.evidence["answer_probs"], strict=True)
        ]
