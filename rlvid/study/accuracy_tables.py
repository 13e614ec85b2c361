"""Render accuracies as tables of arms by levels and of arms by domains, for a terminal of at least 80 columns.

If the terminal is wide enough, intervals stand beside their values, else under them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from textwrap import wrap

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rlvid.study.rows import AccuracyRow, ArmRow, DomainRow, LevelRow
from rlvid.study.stats import Interval
from rlvid.study.tables import MAX_ARM_WIDTH, NONE, done_of, empty_table, split_columns

# Widths in characters, with the space between columns.
SEEDS_WIDTH = 7
REPLIES_WIDTH = 15  # the two columns format and length
BESIDE_WIDTH = 17  # an accuracy with its interval beside it
UNDER_WIDTH = 11  # an accuracy with its interval under it


def accuracy_tables(
    arms: Sequence[ArmRow], levels: Sequence[LevelRow], accuracies: Sequence[AccuracyRow], width: int
) -> list[Table]:
    """Return arms by levels: accuracy with its interval in per cent; replies in the right format, and their tokens.

    Where there is no room for intervals beside their values, they stand under them; where there is still no room,
    format and length are left out, and the levels are split over several tables. The last lines are about each level.
    """
    room = width - _arm_width(arms) - SEEDS_WIDTH
    headings = {level.level: f"{level.level} n={level.questions}" for level in levels}
    beside = room >= REPLIES_WIDTH + sum(_widths(headings, BESIDE_WIDTH, room).values())
    widths = _widths(headings, BESIDE_WIDTH if beside else UNDER_WIDTH, room)
    has_replies = any(arm.format is not None or arm.length is not None for arm in arms)
    show_replies = has_replies and room >= REPLIES_WIDTH + sum(widths.values())
    row_of = {level.level: level for level in levels}
    return [
        _accuracy_table(arms, [row_of[name] for name in chosen], accuracies, widths, beside, show_replies)
        for chosen in split_columns(widths, room - REPLIES_WIDTH if show_replies else room)
    ]


def _accuracy_table(
    arms: Sequence[ArmRow],
    levels: Sequence[LevelRow],
    accuracies: Sequence[AccuracyRow],
    widths: Mapping[str, int],
    beside: bool,
    show_replies: bool,
) -> Table:
    """Return the table of some levels; `widths` are those of their columns, with the space after them."""
    table = _arm_table(arms, [_heading(level.level, level.questions, widths[level.level] - 2) for level in levels])
    if show_replies:
        table.add_column("format", justify="right", no_wrap=True)
        table.add_column("length", justify="right", no_wrap=True)
    accuracy_of = {(row.arm, row.level): row.accuracy for row in accuracies}
    for arm in _shown_arms(arms):
        cells = [_accuracy(accuracy_of.get((arm.arm, level.level)), beside) for level in levels]
        if show_replies:
            cells.append(NONE if arm.format is None else f"{arm.format:.0%}")
            cells.append(NONE if arm.length is None else f"{arm.length:.0f}")
        table.add_row(*_arm_cells(arm), *cells)
    table.add_section()
    for name, cells in _level_lines(levels).items():
        seeds_cell = [""] if _has_seeds(arms) else []
        table.add_row(name, *seeds_cell, *cells, style="dim")
    return table


def _level_lines(levels: Sequence[LevelRow]) -> dict[str, list[str]]:
    """Return the lines under a table of accuracies: name -> a cell for each level."""
    lines = {}
    if any(level.constant_accuracy is not None for level in levels):
        lines["best constant\nletter"] = [_percent(level.constant_accuracy) for level in levels]
    if any(level.videos is not None and level.videos < level.questions for level in levels):
        lines["videos"] = [f"{level.videos:4}" for level in levels]
        lines["design effect"] = [f"{level.design_effect:4.1f}" for level in levels]
    if any(level.detectable is not None for level in levels):
        lines["detectable with\n80 % power"] = [
            "none" if (level.detectable or 0) > 1 else _percent(level.detectable) for level in levels
        ]
    return lines


def domain_tables(arms: Sequence[ArmRow], rows: Sequence[DomainRow], width: int) -> list[Table]:
    """Return for each level arms by domains, accuracy with its interval in per cent, in several tables if need be."""
    tables = []
    room = width - _arm_width(arms) - SEEDS_WIDTH
    accuracy_of = {(row.arm, row.level, row.domain): row.accuracy for row in rows}
    for level, level_rows in groupby(rows, key=lambda row: row.level):
        questions = {row.domain: row.questions for row in level_rows}
        names = dict(zip(questions, questions, strict=True))
        beside = room >= sum(_widths(names, BESIDE_WIDTH, room).values())
        widths = _widths(names, BESIDE_WIDTH if beside else UNDER_WIDTH, room)
        for domains in split_columns(widths, room):
            table = _arm_table(arms, [_two_lines(domain, questions[domain], widths[domain] - 2) for domain in domains])
            table.columns[0].header = f"{escape(level)}\narm"
            for arm in _shown_arms(arms):
                cells = [_accuracy(accuracy_of.get((arm.arm, level, domain)), beside) for domain in domains]
                table.add_row(*_arm_cells(arm), *cells)
            tables.append(table)
    return tables


def _widths(headings: Mapping[str, str], least: int, room: int) -> dict[str, int]:
    """Return the width of each column, with the space after it; a heading that is wider than the room is broken."""
    return {name: min(max(least, 2 + len(heading)), max(room, least)) for name, heading in headings.items()}


def _heading(name: str, questions: int, width: int) -> str:
    """Return the heading of a column, as markup: a name and its questions, in lines of at most `width` characters."""
    whole = len(f"{name} n={questions}") <= width
    return f"{escape(name)} [dim]n={questions}" if whole else _two_lines(name, questions, width)


def _two_lines(name: str, questions: int, width: int) -> str:
    """Return a name with its questions below it, as markup; a name of more than `width` characters is broken."""
    return "\n".join([*map(escape, wrap(name, width)), f"[dim]n={questions}"])


def _arm_table(arms: Sequence[ArmRow], columns: Sequence[str]) -> Table:
    """Return an empty table of arms with these columns after the arm's name and its seeds."""
    table = empty_table("arm")
    table.columns[0].min_width = _arm_width(arms) - 2
    if _has_seeds(arms):
        table.add_column("seeds", no_wrap=True)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _arm_cells(arm: ArmRow) -> list[Text | str]:
    if arm.seeds is None or arm.planned_seeds is None:
        return [Text(arm.arm)]
    return [Text(arm.arm), done_of(arm.seeds, arm.planned_seeds)]


def _has_seeds(arms: Sequence[ArmRow]) -> bool:
    return any(arm.seeds is not None for arm in arms)


def _shown_arms(arms: Sequence[ArmRow]) -> list[ArmRow]:
    """Return the arms that have numbers; `missing_table` names the others."""
    return [arm for arm in arms if arm.seeds != 0]


def _arm_width(arms: Sequence[ArmRow]) -> int:
    return 2 + min(MAX_ARM_WIDTH, max(len(arm.arm) for arm in arms))


def _accuracy(interval: Interval | None, beside: bool) -> str:
    if interval is None:
        return NONE
    gap = "  " if beside else "\n"
    return f"[bold]{100 * interval.value:4.1f}[/]{gap}[dim]{100 * interval.low:4.1f}–{100 * interval.high:.1f}[/]"


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:4.1f}"
