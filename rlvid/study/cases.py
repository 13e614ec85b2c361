"""Compare two runs question by question: count outcomes, select questions, show both completions side by side.

Everything is read from the runs' `eval/`; torch is not imported.
"""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rlvid.answer import LETTERS
from rlvid.errors import UserError
from rlvid.registry import suggest
from rlvid.study.audit import AGREEMENT_PREFIX, COHERENT_FROM
from rlvid.study.logs import read_answers
from rlvid.study.protocols import common_protocol
from rlvid.study.runs import Row, configured_levels, order_levels
from rlvid.utils.files import read_jsonl

OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "=": operator.eq,
}  # fmt: skip
UNREAD = "(the clip could not be read)"
CORRECTNESS_COLORS = {True: "green", False: "red"}


@dataclass(frozen=True)
class QuestionPair:
    """One question that two runs have answered."""

    level: str
    a: Row  # the line of eval/LEVEL.jsonl of the first run
    b: Row  # of the second run

    @property
    def patterns(self) -> list[str]:
        """The names of the `PATTERNS` that the two answers match."""
        return [name for name, matches in PATTERNS.items() if matches(self.a, self.b)]


def is_coherent(row: Row) -> bool | None:
    """Return whether the reasoning leads to the answer, by the mean of the run's consistency rewards; None without any.

    A reward's score before its gate, the evidence `agreement/NAME`, takes its place: gated, a wrong answer scores 0.
    """
    scores = {key: value for key, value in row.items() if key.startswith("rewards/consistency")}
    for key, values in row.get("evidence", {}).items():
        if key.startswith(AGREEMENT_PREFIX):
            scores[f"rewards/{key.removeprefix(AGREEMENT_PREFIX)}"] = values[0]
    known = [score for score in scores.values() if score is not None]
    return sum(known) / len(known) >= COHERENT_FROM if known else None


PATTERNS: Mapping[str, Callable[[Row, Row], bool]] = {
    "a wrong, b right": lambda a, b: not a["correct"] and b["correct"],
    "a right, b wrong": lambda a, b: a["correct"] and not b["correct"],
    "both right": lambda a, b: a["correct"] and b["correct"],
    "both wrong": lambda a, b: not a["correct"] and not b["correct"],
    "same wrong answer": lambda a, b: not a["correct"] and a["answer"] == b["answer"] is not None,
    "b malformed": lambda a, b: b["answer"] is None,
    "b right, incoherent": lambda a, b: b["correct"] and is_coherent(b) is False,
    "b wrong, coherent": lambda a, b: not b["correct"] and is_coherent(b) is True,
}


def compare_runs(a: Path, b: Path, metric: str = "") -> list[QuestionPair]:
    """Return the questions that both runs answered, level by level, in the order of the first run.

    Args:
        a, b: run folders, or folders with the logs of another tool, see `logs`.
        metric: of logs that have several.

    Raises:
        UserError: a folder is not a run with a finished evaluation, no question was answered by both, or the runs were
            evaluated under different protocols.
    """
    for run in (a, b):
        if not run.is_dir():
            siblings = [path.name for path in run.parent.glob("*/")]
            raise UserError(f"no run {str(run)!r}.{suggest(run.name, siblings)}")
    common_protocol({str(run): run for run in (a, b) if (run / "eval").is_dir()})
    pairs = []
    answers_of_a, answers_of_b = (_read_answers(run, metric) for run in (a, b))
    for level in order_levels(answers_of_a, configured_levels(a)):
        rows_of_b = answers_of_b.get(level, {})
        pairs += [QuestionPair(level, row, rows_of_b[id]) for id, row in answers_of_a[level].items() if id in rows_of_b]
    if not pairs:
        raise UserError(f"{a} and {b} have no question in common")
    return pairs


def _read_answers(run: Path, metric: str) -> dict[str, dict[str, Row]]:
    """Return level -> question id -> row of a run, or of a checkpoint's logs. UserError if there are none."""
    files = sorted((run / "eval").glob("*.jsonl"))
    answers: dict[str, dict[str, Row]] = {path.stem: {row["id"]: row for row in read_jsonl(path)} for path in files}
    answers = answers or read_answers(run, metric)
    if not answers:
        raise UserError(f"{run} has no finished evaluation (eval/LEVEL.jsonl): give a run folder")
    return answers


def telling_patterns(pairs: Sequence[QuestionPair]) -> list[str]:
    """Return the patterns to show where none is named: one run is right and the other wrong.

    If the runs are right on the same questions, it is "both wrong"; if they are always right, none, which means all.
    """
    found = {pattern for pair in pairs for pattern in pair.patterns}
    one_right: list[str] = [pattern for pattern in ("a wrong, b right", "a right, b wrong") if pattern in found]
    return one_right or (["both wrong"] if "both wrong" in found else [])


def select_questions(
    pairs: Sequence[QuestionPair],
    patterns: Sequence[str] = (),
    levels: Sequence[str] = (),
    domains: Sequence[str] = (),
    where: Sequence[str] = (),
) -> list[QuestionPair]:
    """Return the questions that match one of the patterns, levels and domains, and all conditions.

    Args:
        pairs: the questions.
        patterns: some of `PATTERNS`, in any case; none means all.
        levels: none means all.
        domains: none means all.
        where: conditions on the second run's row, see `parse_condition`.

    Raises:
        UserError: a name is unknown, or a condition is malformed.
    """
    patterns = [pattern.lower() for pattern in patterns]
    _check_known("pattern", patterns, PATTERNS)
    _check_known("level", levels, {pair.level for pair in pairs})
    _check_known("domain", domains, {pair.a["domain"] for pair in pairs})
    columns = {key for pair in pairs for key in pair.b}
    conditions = [parse_condition(text, columns) for text in where]

    def is_selected(pair: QuestionPair) -> bool:
        return (
            (not patterns or any(pattern in patterns for pattern in pair.patterns))
            and (not levels or pair.level in levels)
            and (not domains or pair.a["domain"] in domains)
            and all(condition(pair.b) for condition in conditions)
        )

    return [pair for pair in pairs if is_selected(pair)]


def _check_known(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise UserError if a name is unknown."""
    known = list(known)
    for name in names:
        if name not in known:
            raise UserError(f"no {kind} {name!r}. Known: {'; '.join(known)}")


def parse_condition(text: str, columns: set[str]) -> Callable[[Row], bool]:
    """Parse a condition such as `format<1` or `length>=40`, and return a function that tests a row.

    A row without a number in the column does not meet the condition.

    >>> condition = parse_condition("length>=40", {"length", "rewards/format"})
    >>> condition({"length": 52}), condition({"length": None})
    (True, False)

    Args:
        text: a column, one of `OPERATORS` and a number; the name of a reward stands for its column.
        columns: the known columns.

    Raises:
        UserError: the text is not a condition, or the column is unknown.
    """
    match = re.fullmatch(r"\s*([\w./:-]+?)\s*(<=|>=|<|>|=)\s*(-?(?:\d+\.?\d*|\.\d+))\s*", text)
    if not match:
        raise UserError(f"--where {text!r} is not a condition such as 'length>40' or 'consistency_embedding<0.5'")
    name, sign, number = match.groups()
    key = f"rewards/{name}" if f"rewards/{name}" in columns else name
    if key not in columns:
        known = {column.removeprefix("rewards/") for column in columns}
        raise UserError(f"--where: answers have no column {name!r}.{suggest(name, known)}")
    compares, limit = OPERATORS[sign], float(number)
    return lambda row: isinstance(row.get(key), int | float) and compares(row[key], limit)


def render_comparison(
    pairs: Sequence[QuestionPair],
    selected: Sequence[QuestionPair],
    names: tuple[str, str],
    limit: int,
    patterns: Sequence[str] = (),
) -> Group:
    """Return a table that counts all questions by pattern, and the first of the selected ones side by side.

    Args:
        pairs: all questions.
        selected: the ones to show.
        names: of the two runs.
        limit: how many of the selected ones to show.
        patterns: by which they were selected, for the last line.
    """
    shown = selected[:limit]
    parts: list[RenderableType] = [_count_table(pairs, names)]
    for pair in shown:
        parts += ["", _render_question(pair, names)]
    what = f": {' or '.join(patterns)}" if patterns else ""
    return Group(*parts, "", f"{len(shown)} of {len(selected)} shown{what}")


def _count_table(pairs: Sequence[QuestionPair], names: tuple[str, str]) -> Table:
    """Return the number of questions by pattern and level; patterns without a question are left out."""
    counts = Counter((pair.level, pattern) for pair in pairs for pattern in pair.patterns)
    totals = Counter(pair.level for pair in pairs)
    table = Table(f"a: {names[0]}\nb: {names[1]}", *totals, box=None, padding=(0, 2, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    for pattern in PATTERNS:
        if any(counts[level, pattern] for level in totals):
            table.add_row(pattern, *(str(counts[level, pattern]) for level in totals))
    table.add_row("questions", *map(str, totals.values()), style="dim")
    return table


def _render_question(pair: QuestionPair, names: tuple[str, str]) -> RenderableType:
    """Return a question with its options and narrations, and the two completions below it."""
    row = pair.a
    lines = Text(f"{pair.level}/{row['id']}  {row['domain']}\n", style="dim")
    lines.append(row.get("question", "(this older run did not save the questions)"), style="default bold")
    for letter, option in zip(LETTERS, row.get("options", ()), strict=False):
        is_right = letter == row["gold"]
        lines.append(f"\n  {letter}  {option}{'  (right)' * is_right}", style="bold" if is_right else "default")
    if narrations := row.get("evidence", {}).get("narrations"):
        lines.append(f"\nnarrations  {'; '.join(narrations)}", style="dim")
    completions = Table.grid(expand=True)
    for _ in names:
        completions.add_column(ratio=1)
    completions.add_row(_completion_panel(names[0], pair.a), _completion_panel(names[1], pair.b))
    return Group(lines, completions)


def reply_text(row: Row) -> str:
    """Return the reply of a row, or a note that there is none because its clip could not be read."""
    return UNREAD if "unread" in row else str(row.get("completion", ""))


def _completion_panel(name: str, row: Row) -> Panel:
    """Return a completion with its rewards in a frame, green if the answer is right, red if it is wrong."""
    color = CORRECTNESS_COLORS[row["correct"]]
    text = Text(reply_text(row))
    text.highlight_regex(r"</?(think|answer)>", "dim")
    text.highlight_regex(r"(?<=<answer>).*(?=</answer>)", f"bold {color}")
    rewards = {key.removeprefix("rewards/"): value for key, value in row.items() if key.startswith("rewards/")}
    scores = [f"{key} {value:.2f}" for key, value in rewards.items() if value is not None and key != "accuracy"]
    text.append(f"\n\n{'  '.join(scores)}", style="dim")
    outcome = f"{name}: {row['answer'] or 'no answer'}, {'right' if row['correct'] else 'wrong'}"
    return Panel(text, title=Text(outcome), title_align="left", border_style=color)
