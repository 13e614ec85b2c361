"""Render the means of the other rewards that were measured, arms by levels, for a terminal of at least 80 columns.

If the terminal is wide enough, intervals stand beside their values, else under them, and in several tables if need be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from textwrap import wrap

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rlvid.study.measures import MeasureDifferenceRow, MeasureRow
from rlvid.study.stats import Interval
from rlvid.study.tables import MAX_ARM_WIDTH, NONE, empty_table, split_columns

LEAST_WIDTH = 8  # characters of a column
NEW_LINE = "\n"
Column = Mapping[str, tuple[str, str]]  # arm -> a value, and its interval


def measure_tables(means: Sequence[MeasureRow], differences: Sequence[MeasureDifferenceRow], width: int) -> list[Table]:
    """Return tables for each reward: arms by levels, and the difference from the control on all levels together."""
    tables: list[Table] = []
    for measure, group in groupby(means, key=lambda row: row.measure):
        rows = list(group)
        columns: dict[str, Column] = {
            level: {row.arm: _cell(row.mean) if row.mean else (NONE, "") for row in rows if row.level == level}
            for level in dict.fromkeys(row.level for row in rows)
        }
        if compared := [row for row in differences if row.measure == measure]:
            heading = f"all levels, minus {compared[0].control}"
            columns[heading] = {row.arm: _cell(row.difference, "+") for row in compared if row.difference}
        tables += _tables(measure, list(dict.fromkeys(row.arm for row in rows)), columns, width)
    return tables


def _tables(measure: str, arms: Sequence[str], columns: Mapping[str, Column], width: int) -> list[Table]:
    """Return arms by columns, in as many tables as the width needs."""
    name_width = 2 + min(MAX_ARM_WIDTH, max(map(len, [measure, *arms])))
    room = width - name_width
    layouts = ((True, True), (True, False), (False, False))  # intervals beside their values, headings in one line
    beside, whole = next(
        one for one in layouts if one == layouts[-1] or sum(_widths(columns, *one).values()) - 2 <= room
    )
    widths = _widths(columns, beside, whole)
    tables = []
    for headings in split_columns(widths, room):
        table = empty_table(escape(measure))
        table.columns[0].min_width = name_width - 2
        for heading in headings:
            table.add_column(escape("\n".join(wrap(heading, widths[heading] - 2))), no_wrap=True)
        for arm in arms:
            table.add_row(Text(arm), *(_in_markup(columns[heading].get(arm), beside) for heading in headings))
        tables.append(table)
    return tables


def _widths(columns: Mapping[str, Column], beside: bool, whole_headings: bool) -> dict[str, int]:
    """Return the width of each column, with the space after it."""
    widths = {}
    for heading, cells in columns.items():
        lines = [f"{value}  {ends}" if beside else max(value, ends, key=len) for value, ends in cells.values()]
        widths[heading] = 2 + max(LEAST_WIDTH, *map(len, lines), len(heading) if whole_headings else 0)
    return widths


def _in_markup(cell: tuple[str, str] | None, beside: bool) -> str:
    """Return a value and its interval; "" for an arm that has none in this column."""
    if cell is None:
        return ""
    value, ends = cell
    return f"[bold]{value}[/]{'  ' if beside else NEW_LINE}[dim]{ends}[/]" if ends else value


def _cell(interval: Interval, sign: str = "") -> tuple[str, str]:
    return f"{interval.value:{sign}.2f}", f"{interval.low:{sign}.2f} to {interval.high:{sign}.2f}"
