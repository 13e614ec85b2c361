"""The table at the end of an evaluation: accuracy by level and domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from rlvid.utils.files import read_jsonl
from rlvid.utils.proportions import wilson

HEADINGS = ("level", "domain", "correct", "of", "accuracy", "95 % interval", "well-formed")


def results_table(folder: Path, averages: Mapping[str, Mapping[str, Sequence[str]]] | None = None) -> Table | None:
    """Return accuracy by level and domain in an `eval/` folder, with Wilson's 95 % intervals; None if it is empty.

    Questions that the protocol's denominator leaves out are not counted. Where answers are numbers, the column "score"
    has the mean score of a level, such as its mean relative accuracy.

    Args:
        folder: holds LEVEL.jsonl.
        averages: name of a published average -> its tasks, each with its levels. It is added if all of them are there.
    """
    levels = {path.stem: read_jsonl(path) for path in sorted(folder.glob("*.jsonl"))}
    has_scores = any("score" in row for rows in levels.values() for row in rows)
    headings = [*HEADINGS, "score"] if has_scores else HEADINGS
    table = Table(*headings, box=None, pad_edge=False)
    for level, rows in levels.items():
        counted = [row for row in rows if not row.get("excluded")]
        domains = sorted({row["domain"] for row in counted})
        for domain in ["all", *domains] if len(domains) > 1 else domains:
            chosen = [row for row in counted if domain in ("all", row["domain"])]
            cells = [level, domain, *_accuracy(chosen)]
            if has_scores:
                known = any("score" in row for row in chosen)
                cells.append(f"{column_mean(chosen, 'score'):.1%}" if known else "–")
            table.add_row(*cells)
    for name, tasks in (averages or {}).items():
        if {level for task in tasks.values() for level in task} <= levels.keys():
            cells = [name, f"{len(tasks)} tasks", *[""] * (len(headings) - 2)]
            cells[-1 if has_scores else HEADINGS.index("accuracy")] = f"{published_average(levels, tasks):.1%}"
            table.add_row(*cells)
    return table if table.rows else None


def published_average(levels: Mapping[str, Sequence[Mapping[str, Any]]], tasks: Mapping[str, Sequence[str]]) -> float:
    """Return the mean over tasks of the mean over their levels, each by its mean score or, without scores, accuracy.

    Args:
        levels: level -> its answers.
        tasks: task -> its levels.
    """

    def value(level: str) -> float:
        rows = [row for row in levels[level] if not row.get("excluded")]
        return column_mean(rows, "score" if any("score" in row for row in rows) else "correct")

    means = [sum(map(value, names)) / len(names) for names in tasks.values()]
    return sum(means) / len(means)


def _accuracy(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the cells from "correct" to "well-formed" of some answers."""
    correct = sum(row["correct"] for row in rows)
    low, high = wilson(correct, len(rows))
    form = f"{column_mean(rows, 'rewards/format'):.0%}" if "rewards/format" in rows[0] else "–"
    return [str(correct), str(len(rows)), f"{correct / len(rows):.1%}", f"{low:.1%} to {high:.1%}", form]


def column_mean(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    """Return the mean of a column over the rows that have it; 0 if none has."""
    values = [row[key] for row in rows if row.get(key) is not None]
    return sum(values) / len(values) if values else 0.0
