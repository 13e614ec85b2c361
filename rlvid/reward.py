"""The interface of a reward, the `@each` decorator, and `RewardMix`, the weighted sum of several rewards.

A reward is a callable `list[Group] -> Column`: one row per group, one number per completion, `None` where the reward
does not apply. There are two ways to write one:

- a function `(completion, prompt, *, options) -> float | None` under `@each`;
- a frozen dataclass with `__call__(groups)`, whose fields are the reward's options in the config.

A reward that reads more than the text lists it in its attribute `needs`, a frozenset of names. `column:NAME` is the
column of another reward, which is then computed first. Every other name is a kind of evidence that the trainer
provides (rlvid/trainer/evidence.py).
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from graphlib import CycleError, TopologicalSorter
from math import exp, isfinite
from typing import Any, Protocol, overload

from rlvid.config import Plugin
from rlvid.errors import UserError
from rlvid.registry import available, build
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.fields import location
from rlvid.utils.timeout import time_limit

Column = list[list[float | None]]  # (P, G), rows may differ in length
VerdictNoiseFn = Callable[[str, Sequence[Group]], None]  # (reward's name, groups): changes that column in place

_TIMEOUT = (
    "reward {name!r} did not return within train.reward_timeout = {seconds:g} s: raise the limit and "
    "continue with --resume, or fix it, which starts a new run"
)


class Reward(Protocol):
    """A callable that maps groups to a column."""

    def __call__(self, groups: Sequence[Group]) -> Column:
        """Return one row per group with one number per completion, `None` where the reward does not apply."""


class CompletionReward(Protocol):
    """What `@each` makes: a reward over groups that also scores one completion."""

    @overload
    def __call__(self, groups: Sequence[Group], /, **options: Any) -> Column: ...
    @overload
    def __call__(self, completion: Completion | str, prompt: Prompt, /, **options: Any) -> float | None: ...


def each(score: Callable[..., float | None]) -> CompletionReward:
    """Turn a function that scores one completion into a reward over groups.

    `score` has the signature `(completion, prompt, *, options) -> float | None`. Its keyword-only parameters become the
    reward's options in the config. The reward can still be called with one completion, or with its text, and a prompt.

    >>> from rlvid.types import Completion, Group, Prompt
    >>> @each
    ... def brevity(completion, prompt, *, limit=3):
    ...     return len(completion.text) <= limit
    >>> brevity([Group(Prompt("q1", "Which?"), [Completion("B"), Completion("It is B")])])
    [[1.0, 0.0]]
    >>> brevity("It is B", Prompt("q1", "Which?"), limit=9)
    1.0
    """

    @wraps(score)
    def reward(groups: Any, prompt: Prompt | None = None, /, **options: Any) -> Any:
        if prompt is not None:
            return reward([make_group(prompt, [groups])], **options)[0][0]
        return [
            [_as_float(score(completion, group.prompt, **options), score) for completion in group]  # one row
            for group in groups
        ]

    return reward


def make_group(prompt: Prompt, completions: Sequence[Completion | str]) -> Group:
    """Return a group; a text becomes a completion without tokens."""
    return Group(prompt, [Completion(one) if isinstance(one, str) else one for one in completions])


def is_flat(totals: Sequence[float]) -> bool:
    """Return whether the completions of a group have the same total reward, but for rounding: a flat group.

    >>> is_flat([0.1 + 0.2, 0.3]), is_flat([0.0, 0.1])
    (True, False)
    """
    return max(totals) - min(totals) < 1e-9


def _as_float(value: float | None, score: Callable[..., float | None]) -> float | None:
    """Return what `score` returned as a float. Raises UserError if it is no number."""
    try:
        if isinstance(value, str):
            raise TypeError("a text, which float would read")
        return None if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{location(score)}: {score.__name__} returned {reprlib.repr(value)} for a completion: return a number, or "
            "None where the reward does not apply"
        ) from error


class RewardMix:
    """Several rewards, their order of computation, and their weighted sum.

    A reward comes after the rewards whose columns it reads. A column that is read but is not in the mix is added with
    weight 0.

    Attributes:
        rewards: the rewards by name, in the order of computation.
        weights: each reward's weight at step 0.
        anneal: the decay constant in steps of each reward whose weight fades.
        needs: the kinds of evidence that each reward reads.
        timeout: the time limit for one reward and one call, in seconds; 0 means no limit.

    Raises UserError if rewards read each other's columns in a circle, or if a column's reward does not exist.
    """

    def __init__(
        self,
        rewards: Mapping[str, Reward],
        weights: Mapping[str, float],
        anneal: Mapping[str, float] | None = None,
        timeout: float = 0,
    ) -> None:
        self.timeout = timeout
        self.rewards = _in_order(_with_required(rewards))
        self.weights = {name: weights.get(name, 0.0) for name in self.rewards}
        self.anneal = {name: steps for name, steps in (anneal or {}).items() if steps}
        self.needs = {name: evidence_needs(reward) for name, reward in self.rewards.items()}

    @classmethod
    def build(cls, plugins: Sequence[Plugin], timeout: float = 0) -> RewardMix:
        """Build the mix that a config describes."""
        return cls(
            {p.name: p.build("rewards") for p in plugins},
            {p.name: p.weight for p in plugins},
            {p.name: p.anneal for p in plugins},
            timeout,
        )

    def with_measures(self, plugins: Sequence[Plugin]) -> RewardMix:
        """Return this mix plus `plugins` as rewards of weight 0, which are computed and logged but not paid.

        A plug-in with the name of a reward of the mix replaces that reward and takes over its weight. Weights do not
        fade in the new mix: it is for evaluation.
        """
        measures = {p.name: p.build("rewards") for p in plugins}
        return RewardMix({**self.rewards, **measures}, self.weights, timeout=self.timeout)

    @property
    def required_evidence(self) -> list[str]:
        """The kinds of evidence that the rewards of the mix read, sorted."""
        return sorted(frozenset().union(*self.needs.values()))

    def weights_at(self, step: int) -> dict[str, float]:
        """Return each reward's weight at a step: `weight * exp(-step / anneal)`, or `weight` where it does not fade."""
        return {
            name: weight * exp(-step / self.anneal[name]) if name in self.anneal else weight
            for name, weight in self.weights.items()
        }

    def __call__(
        self, groups: Sequence[Group], corrupt: VerdictNoiseFn | None = None, step: int = 0
    ) -> list[list[float]]:
        """Compute every reward's column into `group.columns`, and return the (P, G) totals with the weights of `step`.

        `None` counts as 0 in a total. `corrupt` is called on each column right after it is computed: this is how noise
        enters between the verifier and the policy, and before other rewards read the column.

        Raises UserError if a reward takes longer than `timeout` or returns a malformed column (see `check_column`).
        """
        self._compute_columns(self.rewards, groups, corrupt)
        weights = self.weights_at(step)

        def total(group: Group, i: int) -> float:
            return sum(weight * (group[name][i] or 0.0) for name, weight in weights.items())

        return [[total(group, i) for i in range(len(group))] for group in groups]

    def score_text_only(self, groups: Sequence[Group], corrupt: VerdictNoiseFn | None = None) -> None:
        """Compute only the columns of rewards without `needs`, as for the completions of an altered view."""
        self._compute_columns(self.text_only, groups, corrupt)

    def inapplicable_rewards(self, prompts: Sequence[Prompt]) -> list[str]:
        """Return a warning for each paid reward of text alone that applies to none of `prompts`.

        Each reward is tried on one well-formed reply per prompt, with the right answer in it. Only rewards of the
        folder `rewards/` are tried: a plug-in from elsewhere is never called with replies that no policy wrote.
        """
        shipped = set(available("rewards"))
        warnings = []
        for name in sorted(shipped.intersection(self.text_only)):
            if self.weights[name] and prompts and not any(_applies(self.rewards[name], p) for p in prompts):
                warnings.append(
                    f"reward {name!r} applies to none of the {len(prompts)} samples of the data: it pays nothing"
                )
        return warnings

    @property
    def text_only(self) -> list[str]:
        """The names of the rewards without `needs`, in the order of computation."""
        return [name for name, reward in self.rewards.items() if not getattr(reward, "needs", ())]

    def _compute_columns(self, names: Iterable[str], groups: Sequence[Group], corrupt: VerdictNoiseFn | None) -> None:
        for name in names:
            with time_limit(self.timeout, _TIMEOUT.format(name=name, seconds=self.timeout)):
                column = self.rewards[name](groups)
            check_column(name, column, groups, location(self.rewards[name]))
            for group, row in zip(groups, column, strict=True):
                group.columns[name] = [None if value is None else float(value) for value in row]  # of an array, too
            if corrupt:
                corrupt(name, groups)


def required_columns(reward: Reward) -> set[str]:
    """Return the names of the rewards whose columns `reward` reads."""
    return {need.removeprefix("column:") for need in getattr(reward, "needs", ()) if need.startswith("column:")}


def evidence_needs(reward: Reward) -> frozenset[str]:
    """Return the kinds of evidence that `reward` reads: its `needs` without the columns of other rewards."""
    return frozenset(need for need in getattr(reward, "needs", ()) if not need.startswith("column:"))


def check_column(name: str, column: Column, groups: Sequence[Group], where: str = "") -> None:
    """Raise UserError unless the column fits the groups and its numbers are finite.

    The message names the reward, the sample and `where`, FILE:LINE of the reward.
    """
    named = f"reward {name!r} at {where}" if where else f"reward {name!r}"
    if not _is_row(column):
        raise UserError(f"{named} returned {reprlib.repr(column)}: return a list with one row for each group")
    if len(column) != len(groups):
        raise UserError(f"{named} returned {len(column)} rows for {len(groups)} groups")
    for group, row in zip(groups, column, strict=True):
        sample = group.prompt.id
        if not _is_row(row):
            raise UserError(
                f"{named} returned {reprlib.repr(row)} for the group of sample {sample}: return a list of lists, one "
                "row for each group with one number for each completion"
            )
        if len(row) != len(group):
            counts = f"{len(row)} numbers for the {len(group)} completions of sample {sample}"
            raise UserError(f"{named} returned {counts}: return one number, or None, for each completion")
        for value in row:
            try:
                is_finite = value is None or isfinite(value)
            except TypeError as error:
                message = f"{named} returned {reprlib.repr(value)}, no number, for a completion of sample {sample}"
                raise UserError(message) from error
            if not is_finite:
                raise UserError(f"{named} returned {value} for a completion of sample {sample}")


def _is_row(value: Any) -> bool:
    """Whether a value has a length and items, such as a list or an array; a text has not."""
    return hasattr(value, "__len__") and hasattr(value, "__iter__") and not isinstance(value, str)


def _with_required(rewards: Mapping[str, Reward]) -> dict[str, Reward]:
    """Add the rewards whose columns are read but that are not in the mix, and those that these read in turn."""
    complete = dict(rewards)
    unvisited = list(rewards)
    while unvisited:
        reads = required_columns(complete[unvisited.pop(0)])
        for name in reads - complete.keys():
            complete[name] = build("rewards", name)
            unvisited.append(name)
    return complete


def _in_order(rewards: Mapping[str, Reward]) -> dict[str, Reward]:
    """Sort rewards so that each comes after those whose columns it reads; UserError if that is impossible."""
    reads = {name: sorted(required_columns(reward)) for name, reward in rewards.items()}
    try:
        return {name: rewards[name] for name in TopologicalSorter(reads).static_order()}
    except CycleError as error:
        raise UserError(f"rewards need each other's columns in a circle: {' -> '.join(error.args[1])}") from error


def _applies(reward: Reward, prompt: Prompt) -> bool:
    """Whether a reward gives a number to a well-formed reply with the right answer (A where none is known)."""
    reply = Completion(f"<think>So.</think><answer>{prompt.answer or 'A'}</answer>")
    return reward([Group(prompt, [reply])]) != [[None]]
