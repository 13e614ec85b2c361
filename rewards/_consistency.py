"""Shared by the consistency rewards: the conclusion of a thought, and the gate that pays only right answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rewards._words import sentences
from rlvid.reward import Column
from rlvid.types import Completion, Group


@dataclass(frozen=True)
class Consistency:
    """How far a thought supports the answer after it. A subclass implements `agreement`.

    With `gated`, the reward is agreement times accuracy, because otherwise a policy would be paid for reasoning its way
    to a wrong answer. It is then None also where accuracy does not apply. Audits need the values without the gate, so
    these are recorded as evidence `agreement/NAME` of each group.
    """

    gated: bool = True

    needs: ClassVar[frozenset[str]] = frozenset({"column:accuracy"})

    def __call__(self, groups: Sequence[Group]) -> Column:
        """Return one row per group."""
        column = self.agreement(groups)
        for row, group in zip(column, groups, strict=True):
            record_agreement(self, group, row)
        return times_accuracy(column, groups) if self.gated else column

    def agreement(self, groups: Sequence[Group]) -> Column:
        """Return a column from 0 to 1 that ignores which answer is right; 0 without a thought or an answer."""
        raise NotImplementedError


def conclusion(completion: Completion, count: int) -> str:
    """Return the last `count` sentences of the thought, "" without one."""
    return " ".join(sentences(completion.thought or "")[-count:])


def record_agreement(reward: object, group: Group, row: Sequence[float | None]) -> None:
    """Record how coherent the completions of a group are, right or wrong, from 0 to 1.

    An audit counts a completion as coherent from 0.5 on.
    """
    name = type(reward).__module__.rpartition(".")[2]
    group.evidence[f"agreement/{name}"] = list(row)


def times_accuracy(column: Column, groups: Sequence[Group]) -> Column:
    """Return a column times the column `accuracy`; None where either does not apply."""
    return [
        [
            None if value is None or accuracy is None else value * accuracy
            for value, accuracy in zip(row, group["accuracy"], strict=True)
        ]
        for row, group in zip(column, groups, strict=True)
    ]


def without_logging(model: Callable[..., Any]) -> Callable[..., Any]:
    """Return a model of the evidence whose calls are not logged, for rewards that record its outputs themselves."""
    return getattr(model, "call_unlogged", model)
