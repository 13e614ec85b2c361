"""What a report shows, section by section: tables, and words about them. The terminal and the page show the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from rlvid.study import footnotes, tables
from rlvid.study.accuracy_tables import accuracy_tables, domain_tables
from rlvid.study.comparison import Comparison
from rlvid.study.controls import controls_section
from rlvid.study.effect_order import effect_order_section
from rlvid.study.measure_tables import measure_tables
from rlvid.study.settings import settings_section
from rlvid.study.successes import TITLE, split_section, success_tables

if TYPE_CHECKING:
    from rlvid.study.report import Report

Section = tuple[str, list[Table | Text]]  # a title, and tables with words about them

WIDE = 100  # columns of a terminal from which on differences are drawn


def report_sections(report: Report, width: int) -> Iterator[Section]:
    """Yield a title, and tables with words about them, for `width` columns: at least 80."""
    if report.plan_changes:
        yield "Changes of the plan", [Text(change.sentence, style="yellow") for change in report.plan_changes]
    if report.controls:
        yield "Controls", controls_section(report.controls, report.endpoint)
    if report.design:
        yield "Design", [tables.design_table(report.design)]
    if report.settings or report.changed_plugins:
        yield "In which settings arms differ", settings_section(report.settings, report.changed_plugins)
    if report.levels:
        words = footnotes.ACCURACIES if report.paired else footnotes.COUNTED_ACCURACIES
        yield "Accuracy", [*accuracy_tables(report.arms, report.levels, report.accuracies, width), _dim(words)]
    if report.comparisons:
        count = len(report.comparisons) + len(report.interactions)
        yield "Comparisons", _compared(report, report.comparisons, width, count)
    if report.interactions:
        head = "Interactions: what a change costs one arm more than another"
        yield "Interactions", _costs(report, head, report.interactions, footnotes.INTERACTIONS, width)
    if report.successes:
        yield TITLE, success_tables(report.successes, report.success_differences, report.endpoint)
    if report.splits:
        yield "Runs far apart", split_section(report.splits, report.endpoint)
    if report.effect_order:
        yield "Order of effects", effect_order_section(report.effect_order, report.endpoint)
    if report.domains:
        yield "By domain", [*domain_tables(report.arms, report.domains, width)]
    if report.measures:
        shown = measure_tables(report.measures, report.measure_differences, width)
        yield "Besides accuracy", [*shown, _dim(footnotes.MEASURES)]
    if report.noise_cells:
        yield "Noise", _noise(report, width)
    if report.noise_costs:
        head = "What noise costs, against the first method, all levels together"
        words = footnotes.noise_costs(report.noise_costs)
        yield "What noise costs", _costs(report, head, report.noise_costs, words, width)
    if report.noise_comparisons:
        compared = _compared(report, report.noise_comparisons, width, len(report.noise_comparisons))
        yield "Methods under the same noise", [Text("Under the same noise, all levels together", "bold"), *compared]
    if report.looks:
        words = footnotes.adaptive(report.runs_done or 0, report.most_runs or 0)
        yield "Looks", [tables.look_table(report.looks), _dim(words)]
    if report.missing:
        yield "Left out", [tables.missing_table(report.missing, report.arms)]


def _costs(report: Report, head: str, costs: Sequence[Comparison], words: str, width: int) -> list[Table | Text]:
    table = tables.comparison_table(costs, width, scale="less│more")
    rare = footnotes.rare_runs(costs, report.arms, report.noise_cells)
    return [Text(head, style="bold"), table, _about(report, words + rare)]


def _about(report: Report, words: str) -> Text:
    return _dim(footnotes.about_costs(words, report.endpoint))


def _compared(report: Report, comparisons: Sequence[Comparison], width: int, count: int) -> list[Table | Text]:
    single_levels = any(row.condition in {level.level for level in report.levels} for row in comparisons)
    words = footnotes.comparisons(
        count, report.equivalence_margin, report.paired, width >= WIDE, report.endpoint, single_levels
    )
    words += footnotes.at_looks(comparisons) + footnotes.rare_runs(comparisons, report.arms, report.noise_cells)
    return [tables.comparison_table(comparisons, width), _dim(words)]


def _noise(report: Report, width: int) -> list[Table | Text]:
    parts: list[Table | Text] = [
        *tables.noise_cell_tables(report.noise_cells, width),
        _dim(footnotes.NOISE_CELLS),
        tables.noise_response_table(report.noise_responses),
        _about(report, footnotes.NOISE_RESPONSES),
    ]
    if report.noise_gains:
        parts += [tables.noise_gain_table(report.noise_gains), _about(report, footnotes.NOISE_GAINS)]
    if incomplete := [row for row in report.noise_responses if row.cells and row.unmeasured]:
        gaps = "; ".join(f"{row.method}: {', '.join(row.unmeasured)}" for row in incomplete)
        parts.append(Text(f"Left out, without a finished run or without a J: {gaps}.", style="yellow"))
    return parts


def _dim(words: str) -> Text:
    return Text(words, style="dim")
