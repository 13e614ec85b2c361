"""Render the rows of a report as tables for a terminal of at least 80 columns. Nothing is computed here.

`accuracy_tables` has the tables of arms by levels and by domains.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import isinf, isnan

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rlvid.study.comparison import Comparison
from rlvid.study.contrasts import UNDECIDED
from rlvid.study.design import DesignRow
from rlvid.study.measures import MeasureDifferenceRow, MeasureRow
from rlvid.study.noise_rows import NoiseCellRow, NoiseResponseRow
from rlvid.study.rows import ArmRow, LookRow, MissingRow
from rlvid.study.runs import NOT_STARTED
from rlvid.study.stats import Interval
from rlvid.study.strip import Strip

VERDICT_COLORS = {  # by the first word of a verdict
    "better": "bold green",
    "worse": "bold red",
    "equivalent": "cyan",
    "undecided": "yellow",
    "one": "yellow",
}
NONE = "–"  # shown where there is no number


def design_table(rows: Sequence[DesignRow]) -> Table:
    """Return the design of the grid, one line for each name and value."""
    table = empty_table("design", "")
    for row in rows:
        table.add_row(Text(row.name), Text(row.value))
    return table


def comparison_table(comparisons: Sequence[Comparison], width: int) -> Table:
    """Return every comparison; from 100 columns on with a drawn interval, and from 130 on with all its numbers."""
    wide, widest = width >= 100, width >= 130
    table = empty_table("comparison")
    paired = comparisons[0].alone is not None
    drawn = ["worse│better"] if wide else []
    alone = ["alone"] if widest and paired else []
    p_these_runs = ["p, these runs"] if widest and paired else []
    needed = [*(["seeds"] if paired else []), "times"] if wide else []
    for name in ("points", "95 % interval", *drawn, *alone, "p", *p_these_runs, "verdict", *needed):
        table.add_column(name, justify="left" if name in ("verdict", *drawn) else "right", no_wrap=True)
    reach = max(max(-row.difference.low, row.difference.high) for row in comparisons) or 1.0
    for (a, b), group in groupby(comparisons, key=lambda row: (row.a, row.b)):
        table.add_row(Text(f"{a}\nagainst {b}"))
        for row in group:
            color = VERDICT_COLORS[row.verdict.split()[0].rstrip(":")]
            table.add_row(
                Text(f" {row.condition}"),
                f"[bold]{100 * row.difference.value:+.1f}[/]",
                f"[dim]{_signed_ends(row.difference)}[/]",
                *(Strip(row.difference, reach, color) for _ in drawn),
                *(f"[dim]{_signed_ends(row.alone)}[/]" if row.alone else "" for _ in alone),
                _p_value(row.p),
                *(_p_value(row.p_these_runs) for _ in p_these_runs),
                Text(row.verdict, color),
                *format_needed(row)[2 - len(needed) :],
            )
        table.add_section()
    return table


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


def measure_table(means: Sequence[MeasureRow], differences: Sequence[MeasureDifferenceRow]) -> Table:
    """Return one reward: arms by levels, and the difference from the control on all levels, with 95 % intervals."""
    table = empty_table(escape(means[0].measure))
    levels = list(dict.fromkeys(row.level for row in means))
    for level in levels:
        table.add_column(escape(level), no_wrap=True)
    if differences:
        table.add_column(f"all levels, minus {escape(differences[0].control)}")
    difference_of = {row.arm: row.difference for row in differences}
    for arm, rows in groupby(means, key=lambda row: row.arm):
        cells = [_measure(row.mean) if row.mean else NONE for row in rows]
        difference = difference_of.get(arm)
        table.add_row(Text(arm), *cells, _measure(difference, "+") if difference else "")
    return table


def noise_cell_table(rows: Sequence[NoiseCellRow]) -> Table:
    """Return each method's noises: realised error rates, accuracy on each level and on all questions together."""
    table = empty_table("method, noise", "seeds")
    for name in ("FP", "FN", "J", *map(escape, rows[0].level_accuracy), "all", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for method, group in groupby(rows, key=lambda row: row.method):
        table.add_row(Text(method, "bold"))
        for row in group:
            table.add_row(
                Text(f"  {row.noise}"),
                done_of(row.seeds, row.planned_seeds),
                *map(_rate, (row.false_positive_rate, row.false_negative_rate, row.youden_j)),
                *(NONE if value is None else f"{100 * value:.1f}" for value in row.level_accuracy.values()),
                f"{100 * row.accuracy.value:.1f}",
                _ends(row.accuracy),
            )
        table.add_section()
    return table


def noise_response_table(rows: Sequence[NoiseResponseRow]) -> Table:
    """Return each method's kept gain and slope, and how many of its cells they are computed from."""
    table = empty_table("method")
    for name in ("cells", "seeds", "lowest J", "kept", "95 % interval", "slope", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        kept, slope = row.kept_gain, row.slope
        kept_cells = (f"{kept.value:.2f}", f"{kept.low:.2f} to {kept.high:.2f}") if kept else (NONE, "")
        slope_cells = (f"{100 * slope.value:+.1f}", _signed_ends(slope)) if slope else (NONE, "")
        cells, seeds = done_of(row.cells, row.planned_cells), str(row.seeds)
        table.add_row(Text(row.method), cells, seeds, _rate(row.lowest_j), *kept_cells, *slope_cells)
    return table


def look_table(rows: Sequence[LookRow]) -> Table:
    """Return the looks of an adaptive grid, comparison by comparison."""
    table = empty_table("comparison, all levels")
    for name in ("seeds", "information", "points", "repeated interval", "verdict"):
        table.add_column(name, justify="left" if name == "verdict" else "right", no_wrap=True)
    for comparison, group in groupby(rows, key=lambda row: row.comparison):
        table.add_row(Text(comparison.replace(" | ", "\nagainst ")))
        for row in group:
            ends = NONE if isinf(row.difference.low) else _signed_ends(row.difference)
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


def _signed_ends(interval: Interval) -> str:
    return f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}"


def _measure(interval: Interval, sign: str = "") -> str:
    return f"{interval.value:{sign}.2f}  {interval.low:{sign}.2f} to {interval.high:{sign}.2f}"
