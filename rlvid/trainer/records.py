"""What a step leaves behind for people and for other processes: one record per group, a line of `samples/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rlvid.judges.logged_model import LoggedModel
from rlvid.types import Group, Likelihood


@dataclass(frozen=True)
class GroupRecord:
    """One prompt's completions with their scores: what processes gather from each other, and a line of `samples/`."""

    index: int  # of the prompt in the step
    id: str
    question: str
    gold: str | None
    domain: str
    clean: str | None  # the right answer before label noise; only reported, never rewarded
    completions: tuple[str, ...]
    answers: tuple[str | None, ...]
    lengths: tuple[int, ...]  # in tokens
    finished: tuple[bool, ...]
    columns: Mapping[str, list[float | None]]  # reward -> one number per completion
    totals: tuple[float, ...]
    evidence: Mapping[str, Any]  # what the rewards read beyond the texts, as JSON
    views: tuple[str, ...] = ()  # the view of the clip that each was sampled under; () if all saw the clip itself

    @classmethod
    def of(cls, index: int, group: Group, totals: Sequence[float]) -> GroupRecord:
        """The record of a scored group."""
        return cls(
            index=index,
            id=group.prompt.id,
            question=group.prompt.text,
            gold=group.prompt.answer,
            domain=group.prompt.domain,
            clean=group.prompt.meta.get("clean_answer", group.prompt.answer),
            completions=tuple(c.text for c in group),
            answers=tuple(c.answer for c in group),
            lengths=tuple(len(c.tokens) for c in group),
            finished=tuple(c.finished for c in group),
            columns=group.columns,
            totals=tuple(totals),
            evidence=evidence_to_json(group.evidence),
            views=tuple(c.view for c in group) if any(c.view for c in group) else (),
        )

    def to_row(self) -> dict[str, Any]:
        """Return the line of `samples/`: all fields; `views` only if some completion was sampled under one."""
        row = asdict(self)
        return row if self.views else {name: value for name, value in row.items() if name != "views"}


def evidence_to_json(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """A group's evidence as JSON values, as `samples/` keeps it.

    Of a `LoggedModel` its log is kept, if it was called; other callables, such as the text encoder, are left out.
    """
    logs = {name: value.log for name, value in evidence.items() if isinstance(value, LoggedModel) and value.log}
    return {name: _to_json(value) for name, value in {**evidence, **logs}.items() if not callable(value)}


def _to_json(value: Any) -> Any:
    if isinstance(value, Group):
        texts = {"completions": [c.text for c in value], "answers": [c.answer for c in value]}
        return texts | {"columns": value.columns}
    if isinstance(value, Likelihood):
        return asdict(value)
    return [_to_json(item) for item in value] if isinstance(value, list | tuple) else value
