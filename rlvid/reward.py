"""What a reward is: groups in, one column out, `None` where it does not apply; and the weighted mix of several.

A reward is any callable `list[Group] -> list[list[float | None]]`, one row per group, one number per completion.
`@each` makes one from a plain function of a completion and its prompt. A reward with knobs is a frozen dataclass with
`__call__(groups)`. What it reads beyond the text it names in `needs`, and the loop provides it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from math import isfinite
from typing import Any, Protocol

from rlvid.config import Plugin
from rlvid.errors import UserError
from rlvid.resolve import build
from rlvid.types import Group

Column = list[list[float | None]]


class Reward(Protocol):
    """Maps groups to a column."""

    def __call__(self, groups: Sequence[Group]) -> Column:
        """One row per group, one number (or None: does not apply) per completion."""


def each(score: Callable[..., float | None]) -> Callable[..., Column]:
    """Lift `(completion, prompt, *, knobs) -> float | None` to a reward over groups."""

    @wraps(score)
    def reward(groups: Sequence[Group], **knobs: Any) -> Column:
        return [[_number(score(c, g.prompt, **knobs)) for c in g] for g in groups]

    return reward


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


class Mix:
    """Rewards by name, each computed as a named column, and their weighted sum."""

    def __init__(self, rewards: Mapping[str, Reward], weights: Mapping[str, float]) -> None:
        self.rewards, self.weights = rewards, weights
        for name, reward in rewards.items():
            if unknown := sorted(getattr(reward, "needs", ())):
                raise UserError(f"reward {name!r} needs {', '.join(unknown)}: no evidence of that kind is provided yet")

    @classmethod
    def build(cls, plugins: Sequence[Plugin]) -> Mix:
        """The mix that a config asks for."""
        return cls({p.name: build("rewards", p.name, **p.fields) for p in plugins}, {p.name: p.weight for p in plugins})

    def __call__(
        self, groups: Sequence[Group], spoil: Callable[[Sequence[Group]], None] | None = None
    ) -> list[list[float]]:
        """Lay every reward's column on the groups; return the (P, G) totals, `None` counting as nothing.

        `spoil` may change the columns before they are added up: that is how noise comes between verifier and policy.
        """
        for name, reward in self.rewards.items():
            for group, row in zip(groups, check(name, reward(groups), groups), strict=True):
                group.columns[name] = row
        if spoil:
            spoil(groups)
        return [[sum(w * (g[n][i] or 0.0) for n, w in self.weights.items()) for i in range(len(g))] for g in groups]


def check(name: str, column: Column, groups: Sequence[Group]) -> Column:
    """A column of the right shape with finite numbers, or a UserError that names the reward and the sample."""
    if len(column) != len(groups):
        raise UserError(f"reward {name!r} returned {len(column)} rows for {len(groups)} groups")
    for group, row in zip(groups, column, strict=True):
        if len(row) != len(group):
            raise UserError(
                f"reward {name!r} returned {len(row)} numbers for the {len(group)} completions of {group.prompt.id}"
            )
        if bad := [v for v in row if v is not None and not isfinite(v)]:
            raise UserError(f"reward {name!r} returned {bad[0]} for a completion of sample {group.prompt.id}")
    return column
