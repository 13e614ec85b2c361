"""Render the rows of a report as tables for a terminal of at least 80 columns. Nothing is computed here.

`accuracy_tables` has the tables of arms by levels and by domains, `measure_tables` those of other rewards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from math import isinf, isnan
from textwrap import wrap

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rlvid.study.comparison import Comparison, Interaction
from rlvid.study.contrasts import NO_LOOK, UNDECIDED
from rlvid.study.design import DesignRow
from rlvid.study.noise_rows import NoiseCellRow, NoiseGainRow, NoiseResponseRow
from rlvid.study.rows import ArmRow, LookRow, MissingRow
from rlvid.study.runs import NOT_STARTED
from rlvid.study.stats import Interval
from rlvid.study.strip import Strip

VERDICT_COLORS = {  # by what a verdict starts with
    "better": "bold green",
    "worse": "bold red",
    "equivalent": "cyan",
    "undecided": "yellow",
    "one": "yellow",
    "costs less": "bold green",
    "costs more": "bold red",
    "no look": "yellow",
    "yes": "bold green",
    "no": "bold red",
}
NONE = "–"  # shown where there is no number
MAX_ARM_WIDTH = 16  # characters; longer names are wrapped


def verdict_color(verdict: str) -> str:
    """The style of rich that a verdict is shown in."""
    return next(color for start, color in VERDICT_COLORS.items() if verdict.startswith(start))


def design_table(rows: Sequence[DesignRow]) -> Table:
    """Return the design of the grid, one line for each name and value."""
    table = empty_table("design", "")
    for row in rows:
        table.add_row(Text(row.name), Text(row.value))
    return table


def comparison_table(comparisons: Sequence[Comparison], width: int, scale: str = "worse│better") -> Table:
    """Return every comparison; from 100 columns on with a drawn interval, and from 130 on with all its numbers.

    `scale` says what lies left and right of 0.
    """
    wide, widest = width >= 100, width >= 130
    table = empty_table("comparison")
    paired = any(row.detectable is not None for row in comparisons)  # published counts know no power
    drawn = [scale] if wide else []
    alone = ["alone"] if widest and any(row.alone for row in comparisons) else []
    has_p_these_runs = any(row.p_these_runs is not None for row in comparisons)
    p_these_runs = ["p, these runs"] if widest and paired and has_p_these_runs else []
    needed = [*(["seeds"] if paired else []), "times"] if wide else []
    for name in ("points", "95 % interval", *drawn, *alone, "p", *p_these_runs, "verdict", *needed):
        table.add_column(name, justify="left" if name in ("verdict", *drawn) else "right", no_wrap=True)
    known_ends = [row.difference for row in comparisons if row.verdict != NO_LOOK]
    finite = [x for ends in known_ends for x in (-ends.low, ends.high) if not isinf(x)]
    reach = max(finite, default=0.0) or 1.0
    for heading, group in groupby(comparisons, key=_heading):
        table.add_row(Text(heading))
        for row in group:
            color, known = verdict_color(row.verdict), row.verdict != NO_LOOK
            table.add_row(
                Text(f" {row.condition}"),
                f"[bold]{100 * row.difference.value:+.1f}[/]",
                f"[dim]{signed_ends(row.difference) if known else NONE}[/]",
                *(Strip(row.difference.within(-reach, reach), reach, color) if known else "" for _ in drawn),
                *(f"[dim]{signed_ends(row.alone)}[/]" if row.alone else "" for _ in alone),
                _p_value(row.p),
                *(_p_value(row.p_these_runs) for _ in p_these_runs),
                Text(row.verdict, color),
                *format_needed(row)[2 - len(needed) :],
            )
        table.add_section()
    return table


def _heading(row: Comparison) -> str:
    if isinstance(row, Interaction):
        return f"{row.a} to {row.a_changed}\nagainst {row.b} to {row.b_changed}"
    return f"{row.a}\nagainst {row.b}"


def format_needed(comparison: Comparison) -> tuple[str, str]:
    """Return how many more seeds, or times the questions, an undecided comparison needs; a dash from 100 on."""
    if comparison.verdict != UNDECIDED:
        return "", ""
    seeds, times = comparison.needed.seeds, comparison.needed.questions
    digits = 1 if times < 9.95 else 0
    return f"+{seeds:.0f}" if seeds < 100 else NONE, f"x{times:.{digits}f}" if times < 100 else NONE


def _p_value(p: float | None) -> str:
    if p is None:
        return NONE
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def noise_cell_tables(rows: Sequence[NoiseCellRow], width: int) -> list[Table]:
    """Return each method's noises: realised error rates, accuracy on each level and on all questions together.

    They are several tables if their columns are wider than `width`; a level's long name is broken.
    """
    name_width = min(MAX_ARM_WIDTH, max(len(name) for row in rows for name in (row.method, f"  {row.noise}")))
    columns = _noise_columns(rows)
    widths = {
        str(i): 2 + max(map(len, [*heading.split("\n"), *cells])) for i, (heading, _, cells) in enumerate(columns)
    }
    whole, interval = str(len(columns) - 2), str(len(columns) - 1)
    widths |= {whole: widths[whole] + widths[interval], interval: 0}  # an accuracy and its interval stay together
    tables = []
    for chosen in split_columns(widths, width - name_width - 2):
        table = empty_table("method, noise")
        table.columns[0].min_width = name_width
        shown = [columns[int(i)] for i in chosen]
        for heading, _, _ in shown:
            table.add_column(escape(heading), justify="left" if heading == "seeds" else "right", no_wrap=True)
        for method, group in groupby(enumerate(rows), key=lambda item: item[1].method):
            table.add_row(Text(method, "bold"))
            for number, row in group:
                table.add_row(Text(f"  {row.noise}"), *(Text(cells[number], style) for _, style, cells in shown))
            table.add_section()
        tables.append(table)
    return tables


def _noise_columns(rows: Sequence[NoiseCellRow]) -> list[tuple[str, str, list[str]]]:
    """Return the heading, style and cells of each column, without the column of names."""
    columns = [("seeds", "", [done_of(row.seeds, row.planned_seeds) for row in rows])]
    columns.append(("FP", "", [_rate(row.false_positive_rate) for row in rows]))
    columns.append(("FN", "", [_rate(row.false_negative_rate) for row in rows]))
    columns.append(("J", "", [_rate(row.youden_j) for row in rows]))
    for level in rows[0].level_accuracy:
        values = [row.level_accuracy[level] for row in rows]
        cells = [NONE if value is None else f"{100 * value:.1f}" for value in values]
        columns.append(("\n".join(wrap(level, MAX_ARM_WIDTH)), "", cells))
    columns.append(("all", "bold", [f"{100 * row.accuracy.value:.1f}" for row in rows]))
    return [*columns, ("95 % interval", "dim", [_ends(row.accuracy) for row in rows])]


def noise_response_table(rows: Sequence[NoiseResponseRow]) -> Table:
    """Return each method's slope over J and the gain that it keeps, and from how many of its cells."""
    table = empty_table("method")
    for name in ("cells", "lowest J", "slope", "95 % interval", "gain kept", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        slope_cells = (f"{100 * row.slope.value:+.1f}", signed_ends(row.slope)) if row.slope else (NONE, "")
        kept_cells = (f"{row.gain_kept.value:.2f}", _bounds(row.gain_kept)) if row.gain_kept else (NONE, row.note)
        table.add_row(
            Text(row.method), done_of(row.cells, row.planned_cells), _rate(row.lowest_j), *slope_cells, *kept_cells
        )
    return table


def noise_gain_table(rows: Sequence[NoiseGainRow]) -> Table:
    """Return the share of its gain that each method keeps under each noise, and whether it is 80 % or more."""
    table = empty_table("method, noise")
    for name in ("gain kept", "95 % interval", "keeps 80 %"):
        table.add_column(name, justify="left" if name == "keeps 80 %" else "right", no_wrap=True)
    for method, group in groupby(rows, key=lambda row: row.method):
        table.add_row(Text(method, "bold"))
        for row in group:
            words = Text(row.keeps, verdict_color(row.keeps))
            table.add_row(Text(f"  {row.noise}"), f"{row.gain_kept.value:.2f}", _bounds(row.gain_kept), words)
        table.add_section()
    return table


def look_table(rows: Sequence[LookRow]) -> Table:
    """Return the looks of an adaptive grid, comparison by comparison."""
    table = empty_table("comparison, all levels")
    for name in ("seeds", "information", "points", "repeated interval", "verdict"):
        table.add_column(name, justify="left" if name == "verdict" else "right", no_wrap=True)
    for comparison, group in groupby(rows, key=lambda row: row.comparison):
        table.add_row(Text(comparison.replace(" | ", "\nagainst ")))
        for row in group:
            ends = NONE if isinf(row.difference.low) else signed_ends(row.difference)
            points = f"{100 * row.difference.value:+.1f}"
            table.add_row("", str(row.seeds), f"{row.information:.0%}", points, ends, Text(row.verdict))
        table.add_section()
    return table


def missing_table(rows: Sequence[MissingRow], arms: Sequence[ArmRow]) -> Table:
    """Return what does not count and why. All arms of which no run was started share one line."""
    table = empty_table("left out", "seeds", "reason")
    finished = {arm.arm for arm in arms if arm.seeds}
    not_started = []
    for arm, group in groupby(rows, key=lambda row: row.arm):
        arm_rows = list(group)
        if [row.reason for row in arm_rows] == [NOT_STARTED] and arm not in finished:
            not_started.append(arm)
            continue
        for row in arm_rows:
            table.add_row(Text(arm), " ".join(map(str, row.seeds)), Text(row.reason))
    if not_started:
        count = f"{len(not_started)} arm{'s' if len(not_started) > 1 else ''}"
        table.add_row(count, "all", Text(f"{NOT_STARTED}: {'; '.join(not_started)}"))
    return table


def split_columns(widths: Mapping[str, int], room: int) -> list[list[str]]:
    """Return the columns of as many tables as are needed, in order, so that none is wider than `room`.

    Args:
        widths: column -> its width with the two blanks after it, which the last column of a table does not have.
        room: characters; a column that is wider has a table of its own.
    """
    tables: list[list[str]] = [[]]
    for name, width in widths.items():
        if tables[-1] and sum(widths[each] for each in tables[-1]) + width - 2 > room:
            tables.append([])
        tables[-1].append(name)
    return tables


def empty_table(*columns: str) -> Table:
    """Return a table without rows, in the style of all tables; long words in these columns are wrapped."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _rate(rate: float) -> str:
    return NONE if isnan(rate) else f"{rate:.2f}".replace("0.", ".")


def done_of(done: int, planned: int) -> str:
    """Return "3" if all are done, else "2 of 3"."""
    return str(planned) if done == planned else f"{done} of {planned}"


def _ends(interval: Interval) -> str:
    return f"{100 * interval.low:.1f}–{100 * interval.high:.1f}"


def _bounds(interval: Interval) -> str:
    """The ends of the interval of a ratio, each of which may be infinite."""
    if isinf(interval.low) and isinf(interval.high):
        return "unbounded"
    if isinf(interval.low) or isinf(interval.high):
        return f"below {interval.high:.2f}" if isinf(interval.low) else f"above {interval.low:.2f}"
    return f"{interval.low:.2f} to {interval.high:.2f}"


def signed_ends(interval: Interval) -> str:
    """Return the ends in points; "unbounded" if they are infinite."""
    if isinf(interval.low) and isinf(interval.high):
        return "unbounded"
    return f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}"
