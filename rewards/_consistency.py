"""What consistency rewards share: how a thought ends, and a gate that pays only where the answer is right."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rewards._words import sentences
from rlvid.reward import Column
from rlvid.types import Completion, Group


@dataclass(frozen=True)
class Consistency:
    """How far a thought supports the answer that follows it; a subclass says how that is told (`agreement`).

    `gated`: times accuracy, or a policy would be paid for reasoning its way to a wrong answer. None then also where
    accuracy does not apply.
    """

    gated: bool = True

    needs: ClassVar[frozenset[str]] = frozenset({"column:accuracy"})

    def __call__(self, groups: Sequence[Group]) -> Column:
        """One row per group."""
        if not self.gated:
            return self.agreement(groups)
        return [
            [_times(agrees, right) for agrees, right in zip(row, group["accuracy"], strict=True)]
            for row, group in zip(self.agreement(groups), groups, strict=True)
        ]

    def agreement(self, groups: Sequence[Group]) -> Column:
        """From 0 to 1, whatever the right answer is; 0 without a thought or an answer."""
        raise NotImplementedError


def conclusion(completion: Completion, count: int) -> str:
    """The last `count` sentences of the thought: cut from the left, so that a long thought keeps its end."""
    return " ".join(sentences(completion.thought or "")[-count:])


def _times(agrees: float | None, right: float | None) -> float | None:
    return None if agrees is None or right is None else agrees * right
