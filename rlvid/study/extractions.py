"""How much of an accuracy is parsing: the same replies under every published way to read an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from rlvid.protocols import EXTRACTIONS, extract
from rlvid.protocols.extraction import SHOWN

Rows = Sequence[Mapping[str, Any]]  # lines of eval/LEVEL.jsonl


@dataclass(frozen=True)
class ExtractionRow:
    """The replies of one level, read in one way."""

    level: str
    extraction: str
    questions: int  # with options; the others are not read
    answered: float  # share of replies in which a letter is found
    accuracy: float
    difference: float  # to the run's own accuracy on these questions


def extraction_rows(levels: Mapping[str, Rows]) -> list[ExtractionRow]:
    """Return a row for each level with options and each way, in the order of `SHOWN`.

    A reply with no letter counts as wrong, except where lmms-eval draws a random letter (`lmms_eval_random`).
    """
    table = []
    for level, rows in levels.items():
        read = [row for row in rows if row.get("options") and row.get("gold")]
        for name in SHOWN if read else ():
            letters = [extract(name, row["completion"], row["options"]) for row in read]
            accuracy = sum(letter == row["gold"] for letter, row in zip(letters, read, strict=True)) / len(read)
            own = sum(bool(row["correct"]) for row in read) / len(read)
            answered = sum(letter is not None for letter in letters) / len(read)
            table.append(ExtractionRow(level, name, len(read), answered, accuracy, accuracy - own))
    return table


def extraction_table(rows: Sequence[ExtractionRow]) -> Table:
    """Return a table with a row for each way to read an answer and a column for each level: accuracy and points."""
    sizes = {row.level: row.questions for row in rows}
    headings = (f"{level} n={size}" for level, size in sizes.items())
    table = Table("same replies, read by", *headings, "how", box=None, pad_edge=False)
    for name in dict.fromkeys(row.extraction for row in rows):
        cells = {row.level: f"{row.accuracy:.1%} {100 * row.difference:+.1f}" for row in rows if row.extraction == name}
        table.add_row(name, *(cells[level] for level in sizes), EXTRACTIONS[name].text)
    return table
