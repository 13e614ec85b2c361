"""A bonus for right answers of a middling length (Video-R1, arXiv:2503.21776).

+`bonus` where the answer is right and `low` <= tokens <= `high`, else 0. Known hack: padding a right answer up to `low`
tokens costs nothing, which `repetition` notices only if the padding repeats itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rlvid.reward import Column
from rlvid.types import Group


@dataclass(frozen=True)
class Length:
    """`bonus` or 0; as published, but what is right is read from the column by its name, not by its place."""

    low: int = 320
    high: int = 512
    bonus: float = 0.2

    needs: ClassVar[frozenset[str]] = frozenset({"column:accuracy"})

    def __call__(self, groups: Sequence[Group]) -> Column:
        """One row per group."""
        return [
            [
                self.bonus if right and right > 0.1 and self.low <= len(c.tokens) <= self.high else 0.0
                for c, right in zip(group, group["accuracy"], strict=True)
            ]
            for group in groups
        ]
