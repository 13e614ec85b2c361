"""What consistency rewards share: how a thought ends, and a gate that pays only where the answer is right."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rewards._words import sentences
from rlvid.reward import Column
from rlvid.types import Completion, Group


@dataclass(frozen=True)
class Consistency:
    """How far a thought supports the answer that follows it; a subclass says how that is told (`agreement`).

    `gated`: times accuracy, or a policy would be paid for reasoning its way to a wrong answer. None then also where
    accuracy does not apply. What the gate hides from a policy, audits need: `agreement` is laid on each group's
    evidence, as `agreement/NAME`.
    """

    gated: bool = True

    needs: ClassVar[frozenset[str]] = frozenset({"column:accuracy"})

    def __call__(self, groups: Sequence[Group]) -> Column:
        """One row per group."""
        rows = self.agreement(groups)
        for row, group in zip(rows, groups, strict=True):
            lay(self, group, row)
        return [times(row, group["accuracy"]) for row, group in zip(rows, groups, strict=True)] if self.gated else rows

    def agreement(self, groups: Sequence[Group]) -> Column:
        """From 0 to 1, whatever the right answer is; 0 without a thought or an answer."""
        raise NotImplementedError


def conclusion(completion: Completion, count: int) -> str:
    """The last `count` sentences of the thought: cut from the left, so that a long thought keeps its end."""
    return " ".join(sentences(completion.thought or "")[-count:])


def lay(reward: object, group: Group, row: Sequence[float | None]) -> None:
    """Keep how coherent a group's replies are, whether right or wrong: 0 to 1, from 0.5 on an audit calls one so."""
    group.evidence[f"agreement/{type(reward).__module__.rpartition('.')[2]}"] = [*row]


def times(row: Sequence[float | None], accuracy: Sequence[float | None]) -> list[float | None]:
    """A row times accuracy; None where either does not apply."""
    return [None if a is None or b is None else a * b for a, b in zip(row, accuracy, strict=True)]


def unrecorded(model: Callable[..., Any]) -> Callable[..., Any]:
    """A model of the evidence, for a reward that keeps with each completion what the model said of it."""
    return getattr(model, "ask", model)
