"""Render the rows of a report as tables for a terminal of at least 80 columns. Nothing is computed here.

`accuracy_tables` has the tables of arms by levels and by domains.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import isnan

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rlvid.study.comparison import Comparison
from rlvid.study.design import DesignRow
from rlvid.study.measures import MeasureDifferenceRow, MeasureRow
from rlvid.study.noise_rows import NoiseCellRow, NoiseResponseRow
from rlvid.study.rows import AggregateRow, ArmRow, MissingRow
from rlvid.study.runs import NOT_STARTED
from rlvid.study.stats import Interval
from rlvid.study.strip import Strip

VERDICT_COLORS = {"better": "bold green", "worse": "bold red", "equivalent": "cyan", "not": "yellow"}  # by first word
NONE = "–"  # shown where there is no number


def design_table(rows: Sequence[DesignRow]) -> Table:
    """Return the design of the grid, one line for each name and value."""
    table = empty_table("design", "")
    for row in rows:
        table.add_row(Text(row.name), Text(row.value))
    return table


def comparison_table(comparisons: Sequence[Comparison], wide: bool) -> Table:
    """Return every comparison; if `wide`, with its interval drawn on one scale, and with what it would need."""
    table = empty_table("comparison")
    drawn = ["worse│better"] if wide else []
    needed = ["times", "seeds"] if wide else []
    for name in ("points", "95 % interval", *drawn, "p", "verdict", *needed):
        table.add_column(name, justify="left" if name in ("verdict", *drawn) else "right", no_wrap=True)
    reach = max(max(-row.difference.low, row.difference.high) for row in comparisons) or 1.0
    for (a, b), group in groupby(comparisons, key=lambda row: (row.a, row.b)):
        table.add_row(Text(f"{a}\nagainst {b}"))
        for row in group:
            color = VERDICT_COLORS[row.verdict.split()[0]]
            table.add_row(
                Text(f" {row.condition}"),
                f"{100 * row.difference.value:+.1f}",
                _signed_ends(row.difference),
                *(Strip(row.difference, reach, color) for _ in drawn),
                "<.001" if row.p < 0.001 else f"{row.p:.3f}".removeprefix("0"),
                Text(row.verdict, color),
                *format_needed(row)[: len(needed)],
            )
        table.add_section()
    return table


def format_needed(comparison: Comparison) -> tuple[str, str]:
    """Return how many times the questions, or how many seeds, an undecided comparison needs; a dash from 100 on."""
    if not comparison.verdict.startswith("not"):
        return "", ""
    times, seeds = comparison.needed.questions, comparison.needed.seeds
    digits = 1 if times < 9.95 else 0
    return f"x{times:.{digits}f}" if times < 100 else NONE, f"{seeds:.0f}" if seeds < 100 else NONE


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


def aggregate_table(rows: Sequence[AggregateRow]) -> Table:
    """Return arms over all levels together: the interquartile mean, and the probability of beating the control."""
    table = empty_table("arm, all levels")
    for name in ("IQM", "95 % interval", "beats the control", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [f"{100 * row.iqm.value:.1f}", "" if isnan(row.iqm.low) else _ends(row.iqm)]
        if row.beats_control:
            wins = row.beats_control
            cells += [f"{wins.value:.2f}", f"{wins.low:.2f}–{wins.high:.2f}"]
        table.add_row(Text(row.arm), *cells)
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
    """Return each method's robustness area and slope, and how many of its cells they are computed from."""
    table = empty_table("method")
    for name in ("cells", "seeds", "lowest J", "area", "95 % interval", "slope", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        area, slope = row.area, row.slope
        area_cells = (f"{area.value:.3f}", f"{area.low:.3f}–{area.high:.3f}") if area else (NONE, "")
        slope_cells = (f"{100 * slope.value:+.1f}", _signed_ends(slope)) if slope else (NONE, "")
        cells, seeds = done_of(row.cells, row.planned_cells), str(row.seeds)
        table.add_row(Text(row.method), cells, seeds, _rate(row.lowest_j), *area_cells, *slope_cells)
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
