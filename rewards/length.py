"""A bonus for right answers of medium length (Video-R1, arXiv:2503.21776).

+`bonus` if the answer is right and `low` <= tokens <= `high`, else 0; 0 for all replies of a group of which fewer than
two are right.

Known hack: padding a right answer up to `low` tokens costs nothing. `repetition` detects it only if the padding repeats
itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rlvid.reward import Column
from rlvid.types import Group


@dataclass(frozen=True)
class Length:
    """`bonus` or 0; as published, except that accuracy is read from its column by name, not by position."""

    low: int = 320
    high: int = 512
    bonus: float = 0.2

    needs: ClassVar[frozenset[str]] = frozenset({"column:accuracy"})

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low must not be above high, {self.low} > {self.high}: nothing would be paid")

    def __call__(self, groups: Sequence[Group]) -> Column:
        """Return one row per group."""
        return [self.score(group) for group in groups]

    def score(self, group: Group) -> list[float | None]:
        """Return the row of a group."""
        right = [accuracy is not None and accuracy > 0.1 for accuracy in group["accuracy"]]
        if sum(right) < 2:
            return [0.0] * len(group)
        return [
            self.bonus if is_right and self.low <= len(completion.tokens) <= self.high else 0.0
            for completion, is_right in zip(group, right, strict=True)
        ]
