"""Tables and words of a report as the page's template draws them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from rlvid.study.segments import styled_segments
from rlvid.study.strip import Strip

Block = dict[str, Any]

MAX_OPEN_ROWS = 40  # of a section or a table; longer ones are folded
ALL_LEVELS = "all levels"  # the row that a folded table of comparisons shows


def to_block(part: Table | Text) -> Block:
    """Return a table or a text as the macro `block` of page.html expects it.

    A row whose first cell alone has text is a heading. In a table of comparisons with more than `MAX_OPEN_ROWS` rows,
    those of single levels are details.
    """
    if isinstance(part, Text):
        return {"words": part.plain, "style": str(part.style)}
    columns = [_cell(column.header) | {"right": column.justify == "right"} for column in part.columns]
    for heading, column in zip(columns, part.columns, strict=True):
        strips = [cell for cell in column.cells if isinstance(cell, Strip)]
        if strips:
            heading["text"] += f", ±{100 * strips[0].reach:.1f}"
    cells_by_row = zip(*(column.cells for column in part.columns), strict=True)
    rows: list[dict[str, Any]] = [
        {"cells": [_name_cell(first), *map(_cell, others)], "style": str(row.style or ""), "end": row.end_section}
        for row, (first, *others) in zip(part.rows, cells_by_row, strict=True)
    ]
    names = [row["cells"][0]["text"].strip() for row in rows]
    is_long = len(rows) > MAX_OPEN_ROWS and any(name.startswith(ALL_LEVELS) for name in names)
    for name, row in zip(names, rows, strict=True):
        row["heading"] = not any(cell["text"] or "strip" in cell for cell in row["cells"][1:])
        row["detail"] = is_long and not row["heading"] and not name.startswith(ALL_LEVELS)
    return {"title": part.title or "", "columns": columns, "rows": rows, "folded": is_long}


def is_long(blocks: Sequence[Block]) -> bool:
    """Return whether a section has so many rows that it is folded."""
    return sum(len(block.get("rows", ())) for block in blocks) > MAX_OPEN_ROWS


def _name_cell(value: Any) -> Block:
    """Return the cell that names a row; a terminal needs its line breaks, a page does not."""
    cell = _cell(value)
    cell["text"] = cell["text"].replace("\n", " ")
    return cell


def _cell(value: Any) -> Block:
    """Return text and style of a cell; for a `Strip`, the ends and the value of its interval, from 0 to 100."""
    if isinstance(value, Strip):
        low, mean, high = value.interval.low, value.interval.value, value.interval.high
        on_strip = [50 + 50 * number / value.reach for number in (low, mean, high)]
        label = f"{100 * mean:+.1f} points, 95 % interval {100 * low:+.1f} to {100 * high:+.1f}"
        return {"text": "", "style": value.color, "strip": on_strip, "label": label}
    segments = styled_segments(value)
    styles = {style for text, style in segments if text.strip()}
    text = "".join(text for text, _ in segments)
    if len(styles) < 2:
        return {"text": text, "style": next(iter(styles), "")}
    return {"text": text, "style": "", "segments": segments}
