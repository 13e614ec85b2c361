"""What a reward is: groups in, one column out, `None` where it does not apply; and the weighted mix of several.

A reward is any callable `list[Group] -> list[list[float | None]]`, one row per group, one number per completion.
`@each` makes one from a plain function of a completion and its prompt. A reward with knobs is a frozen dataclass with
`__call__(groups)`. What it reads beyond the text it names in `needs`: another reward's `column:NAME`, which is then
computed before it, or evidence that the loop provides (`EVIDENCE`; see rlvid/trainer/evidence.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from graphlib import CycleError, TopologicalSorter
from math import exp, isfinite
from typing import Any, Protocol

from rlvid.config import Plugin
from rlvid.errors import UserError
from rlvid.registry import available, build, suggest
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.timeout import time_limit
from rlvid.video.views import VIEWS

Column = list[list[float | None]]
VerdictNoiseFn = Callable[[str, Sequence[Group]], None]
MADE = ("answer_probs", "answer_likelihood", "ref_logps", "reanswer", "visual_attention")  # by policy and reference
OVERDUE = "reward {name!r} has not come back after train.reward_timeout = {seconds:g} s: mend it, or wait longer"
EVIDENCE = frozenset(("narrations", "embeddings", "nli", "judge", *MADE, *(f"view:{name}" for name in VIEWS)))


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


class RewardMix:
    """Rewards by name, in an order in which each stands after those whose columns it reads, and their weighted sum.

    A column that is read and not in the mix is computed with weight 0. UserError on needs that nothing can meet.
    """

    def __init__(
        self,
        rewards: Mapping[str, Reward],
        weights: Mapping[str, float],
        anneal: Mapping[str, float] | None = None,
        timeout: float = 0,
    ) -> None:
        self.timeout = timeout  # seconds for each reward, 0 for as long as it takes
        rewards, reads = dict(rewards), {}
        waiting = list(rewards)
        for name in waiting:
            reads[name] = required_columns(rewards[name])
            for other in reads[name] - rewards.keys():
                rewards[other] = build("rewards", other)
                waiting.append(other)
        try:
            order = TopologicalSorter({name: sorted(reads[name]) for name in rewards}).static_order()
            self.rewards = {name: rewards[name] for name in order}
        except CycleError as error:
            raise UserError(f"rewards need each other's columns in a circle: {' -> '.join(error.args[1])}") from error
        self.weights = {name: weights.get(name, 0.0) for name in self.rewards}
        self.anneal = {name: steps for name, steps in (anneal or {}).items() if steps}
        self.needs = {name: required_evidence(name, reward) for name, reward in self.rewards.items()}

    @classmethod
    def build(cls, plugins: Sequence[Plugin], timeout: float = 0) -> RewardMix:
        """The mix that a config asks for."""
        return cls(
            {p.name: build("rewards", p.name, **p.fields) for p in plugins},
            {p.name: p.weight for p in plugins},
            {p.name: p.anneal for p in plugins},
            timeout,
        )

    def beside(self, plugins: Sequence[Plugin]) -> RewardMix:
        """The same with rewards that are only measured; one of the same name stands in the other's place."""
        further = {p.name: build("rewards", p.name, **p.fields) for p in plugins}
        return RewardMix({**self.rewards, **further}, self.weights, timeout=self.timeout)

    @property
    def evidence(self) -> list[str]:
        """What the loop must provide, in a fixed order."""
        return sorted(frozenset().union(*self.needs.values()))

    def at(self, step: int) -> dict[str, float]:
        """Each reward's weight at a step."""
        return {n: w * exp(-step / self.anneal[n]) if n in self.anneal else w for n, w in self.weights.items()}

    def __call__(
        self, groups: Sequence[Group], spoil: VerdictNoiseFn | None = None, step: int = 0
    ) -> list[list[float]]:
        """Lay every reward's column on the groups; return the (P, G) totals of a step, `None` counting as nothing.

        `spoil` may change a column as soon as it is there: that is how noise comes between verifier and policy.
        """
        self._lay(self.rewards, groups, spoil)
        mix = self.at(step)
        return [[sum(w * (g[n][i] or 0.0) for n, w in mix.items()) for i in range(len(g))] for g in groups]

    def plain(self, groups: Sequence[Group], spoil: VerdictNoiseFn | None = None) -> None:
        """Lay only the columns of rewards that ask for nothing, as on the completions of an altered view."""
        self._lay([n for n, r in self.rewards.items() if not getattr(r, "needs", ())], groups, spoil)

    def idle(self, prompts: Sequence[Prompt]) -> list[str]:
        """A warning for each paid reward of text alone that applies to no prompt, not even to a reply in good form.

        Only for those of the folder: a plug-in from elsewhere is not called with replies that nobody gave.
        """
        found, shipped = [], available("rewards")
        for name in (n for n in shipped if self.weights.get(n) and not getattr(self.rewards[n], "needs", ())):
            replies = (Group(p, [Completion(f"<think>So.</think><answer>{p.answer or 'A'}</answer>")]) for p in prompts)
            if prompts and all(self.rewards[name]([group]) == [[None]] for group in replies):
                found.append(
                    f"reward {name!r} applies to none of the {len(prompts)} samples of the data: it pays nothing"
                )
        return found

    def _lay(self, names: Iterable[str], groups: Sequence[Group], spoil: VerdictNoiseFn | None) -> None:
        for name in names:
            with time_limit(self.timeout, OVERDUE.format(name=name, seconds=self.timeout)):
                column = self.rewards[name](groups)
            for group, row in zip(groups, check_column(name, column, groups), strict=True):
                group.columns[name] = row
            if spoil:
                spoil(name, groups)


def required_columns(reward: Reward) -> set[str]:
    """The names of the columns that a reward reads."""
    needs: frozenset[str] = getattr(reward, "needs", frozenset())
    return {need.removeprefix("column:") for need in needs if need.startswith("column:")}


def required_evidence(name: str, reward: Reward) -> frozenset[str]:
    """The evidence that a reward asks for; UserError if there is no such kind."""
    asked = frozenset(n for n in getattr(reward, "needs", ()) if not n.startswith("column:"))
    for need in sorted(asked - EVIDENCE):
        raise UserError(f"reward {name!r} needs {need!r}, which is no evidence.{suggest(need, EVIDENCE)}")
    return asked


def check_column(name: str, column: Column, groups: Sequence[Group]) -> Column:
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
