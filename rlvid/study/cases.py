"""Questions by outcome: which did one run get wrong and another right, and what did they say?

Everything is read from the runs' `eval/`. Torch is not imported.
"""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rlvid.answer import LETTERS
from rlvid.errors import UserError
from rlvid.registry import suggest
from rlvid.study.audit import COHERENT
from rlvid.study.runs import Row, configured_levels, order_levels
from rlvid.utils.files import read_jsonl

SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "=": operator.eq,
}  # fmt: skip
COLOURS = {True: "green", False: "red"}


@dataclass(frozen=True)
class Case:
    """One question and what each run made of it."""

    level: str
    a: Row
    b: Row

    @property
    def holds(self) -> list[str]:
        """The names of the patterns that it falls under."""
        return [name for name, falls in PATTERNS.items() if falls(self.a, self.b)]


def coherent(row: Row) -> bool | None:
    """Whether its reasoning leads to its answer, by the run's own consistency rewards; None without any."""
    said = [value for key, value in row.items() if key.startswith("rewards/consistency") and value is not None]
    return sum(said) / len(said) >= COHERENT if said else None


PATTERNS: Mapping[str, Callable[[Row, Row], bool]] = {
    "a wrong, b right": lambda a, b: not a["correct"] and b["correct"],
    "a right, b wrong": lambda a, b: a["correct"] and not b["correct"],
    "both right": lambda a, b: a["correct"] and b["correct"],
    "both wrong": lambda a, b: not a["correct"] and not b["correct"],
    "same wrong answer": lambda a, b: not a["correct"] and a["answer"] == b["answer"] is not None,
    "b malformed": lambda a, b: b["answer"] is None,
    "b right, incoherent": lambda a, b: b["correct"] and coherent(b) is False,
    "b wrong, coherent": lambda a, b: not b["correct"] and coherent(b) is True,
}


def pairs(a: Path, b: Path) -> list[Case]:
    """The questions that both runs answered, level by level in the first one's order."""
    for run in (a, b):
        if not run.is_dir():
            near = [path.name for path in run.parent.glob("*/")]
            raise UserError(f"no run {str(run)!r}.{suggest(run.name, near)}")
        if not list((run / "eval").glob("*.jsonl")):
            raise UserError(f"{run} holds no finished evaluation (eval/LEVEL.jsonl): give a run's folder")
    cases = []
    files = {path.stem: path for path in (a / "eval").glob("*.jsonl")}
    for path in (files[level] for level in order_levels(files, configured_levels(a))):
        others = {row["id"]: row for row in read_jsonl(b / "eval" / path.name)}
        cases += [Case(path.stem, row, others[row["id"]]) for row in read_jsonl(path) if row["id"] in others]
    if not cases:
        raise UserError(f"{a} and {b} have answered no question in common")
    return cases


def choose(
    cases: Sequence[Case],
    patterns: Sequence[str] = (),
    levels: Sequence[str] = (),
    domains: Sequence[str] = (),
    where: Sequence[str] = (),
) -> list[Case]:
    """Those of any of the patterns, levels and domains, of which the second run's row fulfils all conditions."""
    patterns = [pattern.lower() for pattern in patterns]
    for name, known, asked in (
        ("pattern", PATTERNS, patterns),
        ("level", {case.level for case in cases}, levels),
        ("domain", {case.a["domain"] for case in cases}, domains),
    ):
        for one in asked:
            if one not in known:
                raise UserError(f"no {name} {one!r}.{suggest(one, known)}")
    columns = {key for case in cases for key in case.b}
    conditions = [condition(one, columns) for one in where]
    return [
        case
        for case in cases
        if (not patterns or not set(patterns).isdisjoint(case.holds))
        and (not levels or case.level in levels)
        and (not domains or case.a["domain"] in domains)
        and all(holds(case.b) for holds in conditions)
    ]


def condition(where: str, columns: set[str]) -> Callable[[Row], bool]:
    """`format<1`, `length>=40`, `consistency_embedding<0.5`: a test of a row; one without the column fails it."""
    found = re.fullmatch(r"\s*([\w./:-]+?)\s*(<=|>=|<|>|=)\s*(-?[\d.]+)\s*", where)
    if not found:
        raise UserError(f"--where {where!r} is no condition, such as 'length>40' or 'consistency_embedding<0.5'")
    name, sign, number = found.groups()
    key = f"rewards/{name}" if f"rewards/{name}" in columns else name
    if key not in columns:
        known = {column.removeprefix("rewards/") for column in columns}
        raise UserError(f"--where: the answers have no column {name!r}.{suggest(name, known)}")
    compare, limit = SIGNS[sign], float(number)
    return lambda row: isinstance(row.get(key), int | float) and compare(row[key], limit)


def show(cases: Sequence[Case], chosen: Sequence[Case], names: tuple[str, str], limit: int) -> Group:
    """How many questions fall under which pattern, and the first of the chosen ones side by side."""
    counts = Counter((case.level, pattern) for case in cases for pattern in case.holds)
    levels = list(dict.fromkeys(case.level for case in cases))
    table = Table(f"a: {names[0]}\nb: {names[1]}", *levels, box=None, padding=(0, 2, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    for pattern in PATTERNS:
        if any(counts[level, pattern] for level in levels):
            table.add_row(pattern, *(str(counts[level, pattern]) for level in levels))
    table.add_row("questions", *(str(sum(case.level == level for case in cases)) for level in levels), style="dim")
    shown = [part for case in chosen[:limit] for part in ("", _one(case, names))]
    return Group(table, *shown, "", f"{min(limit, len(chosen))} of {len(chosen)} shown")


def _one(case: Case, names: tuple[str, str]) -> RenderableType:
    row = case.a
    lines = Text(f"{case.level}/{row['id']}  {row['domain']}\n", style="dim")
    lines.append(row.get("question", "(a run from before questions were kept with the answers)"), style="default bold")
    for letter, option in zip(LETTERS, row.get("options", ()), strict=False):
        lines.append(f"\n  {letter}  {option}", style="bold" if letter == row["gold"] else "default")
    if told := row.get("evidence", {}).get("narrations"):
        lines.append(f"\nseen  {'; '.join(told)}", style="dim")
    replies = Table.grid(expand=True)
    for _ in names:
        replies.add_column(ratio=1)
    replies.add_row(*(_reply(name, answer) for name, answer in zip(names, (case.a, case.b), strict=True)))
    return Group(lines, replies)


def _reply(name: str, row: Row) -> Panel:
    text = Text(row["completion"] or "(its clip could not be read)")
    text.highlight_regex(r"</?(think|answer)>", "dim")
    text.highlight_regex(r"(?<=<answer>).*(?=</answer>)", f"bold {COLOURS[row['correct']]}")
    scores = {k.removeprefix("rewards/"): v for k, v in row.items() if k.startswith("rewards/") and v is not None}
    about = "  ".join(f"{key} {value:.2f}" for key, value in scores.items() if key != "accuracy")
    text.append(f"\n\n{about}", style="dim")
    return Panel(text, title=name, title_align="left", border_style=COLOURS[row["correct"]])
