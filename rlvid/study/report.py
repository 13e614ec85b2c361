"""The report on a folder of runs: accuracies, comparisons with their verdicts, and what is not finished.

`build_report` computes the rows of all tables; `Report` prints them, and writes them as JSON or CSV.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from rlvid.study import footnotes
from rlvid.study.comparison import Comparison, Interaction, compare_arms, compare_interactions, fit_seed_model
from rlvid.study.controls import ControlRow, control_rows
from rlvid.study.design import DesignRow, design_rows
from rlvid.study.effect_order import EffectOrderRow, effect_order_rows
from rlvid.study.measures import MeasureDifferenceRow, MeasureRow, measure_difference_rows, measure_keys, measure_rows
from rlvid.study.noise_rows import NoiseCellRow, NoiseGainRow, NoiseResponseRow, noise_sections
from rlvid.study.notebook import render_html
from rlvid.study.plan_changes import PlanChange
from rlvid.study.protocols import protocol_in_words
from rlvid.study.rows import (
    AccuracyRow,
    ArmRow,
    DomainRow,
    LevelRow,
    LookRow,
    MissingRow,
    accuracy_rows,
    arm_rows,
    domain_rows,
    level_rows,
    look_rows,
    missing_rows,
    most_runs,
    to_csv,
    to_record,
)
from rlvid.study.sections import Section, report_sections
from rlvid.study.settings import ChangedPlugin, SettingRow, changed_plugins
from rlvid.study.study import Study, read_study
from rlvid.study.successes import (
    SplitRow,
    SuccessDifferenceRow,
    SuccessRow,
    split_rows,
    success_difference_rows,
    success_rows,
)
from rlvid.utils.console import wide_console

NOTEBOOK_WIDTH = 200  # columns; wide tables scroll there


@dataclass(frozen=True, kw_only=True, repr=False)
class Report:
    """What the runs of a study show, as rows of numbers; published counts give one too.

    Each field with the default () is a table, a sequence of rows, empty where it does not apply. The dataclass of a row
    documents its numbers. Accuracies are shares in [0, 1].
    ```
    report = rlvid.report("runs/quickstart")
    [(row.a, row.b, row.condition, row.verdict) for row in report.comparisons]
    ```
    """

    name: str
    question: str
    source: str = ""  # of published counts
    control: str
    runs_done: int | None = None  # None for published counts
    runs_planned: int | None = None
    equivalence_margin: float
    endpoint: str = "accuracy"  # what is compared
    most_runs: int | None = None  # of an adaptive grid, had every arm got the most seeds
    protocol: str = ""  # of the evaluations, with settings that differ from it; "" for published counts
    paired: bool = True  # False: it is not known who answered which question right, so tests are not paired

    plan_changes: Sequence[PlanChange] = ()
    controls: Sequence[ControlRow] = ()
    design: Sequence[DesignRow] = ()
    settings: Sequence[SettingRow] = ()
    changed_plugins: Sequence[ChangedPlugin] = ()
    arms: Sequence[ArmRow] = ()
    levels: Sequence[LevelRow] = ()
    accuracies: Sequence[AccuracyRow] = ()
    comparisons: Sequence[Comparison] = ()
    interactions: Sequence[Interaction] = ()
    successes: Sequence[SuccessRow] = ()
    success_differences: Sequence[SuccessDifferenceRow] = ()
    splits: Sequence[SplitRow] = ()
    effect_order: Sequence[EffectOrderRow] = ()
    domains: Sequence[DomainRow] = ()
    measures: Sequence[MeasureRow] = ()
    measure_differences: Sequence[MeasureDifferenceRow] = ()
    noise_cells: Sequence[NoiseCellRow] = ()
    noise_responses: Sequence[NoiseResponseRow] = ()
    noise_gains: Sequence[NoiseGainRow] = ()
    noise_costs: Sequence[Comparison] = ()  # what noise costs a method more than the first one
    noise_comparisons: Sequence[Comparison] = ()  # methods under the same noise
    looks: Sequence[LookRow] = ()  # of an adaptive grid
    missing: Sequence[MissingRow] = ()

    def __repr__(self) -> str:
        done = "" if self.runs_done is None else f": {self.runs_done} of {self.runs_planned} runs done"
        return f"Report({self.name!r}{done})"

    @property
    def _progress(self) -> str:
        done = f"{self.runs_done} of {self.runs_planned} runs done, protocol {self.protocol}"
        return self.source if self.runs_done is None else done

    def to_records(self) -> dict[str, list[dict[str, Any]]]:
        """Return section -> rows as flat dicts, see `rows.to_record`; empty tables are left out."""
        names = [field.name for field in fields(self) if field.default == ()]
        return {name: [to_record(row) for row in rows] for name in names if (rows := getattr(self, name))}

    def to_json(self) -> str:
        """Return the report as JSON: what it is about, and under "sections" the rows of `to_records`.

        A number that is not known or infinite is null.
        """
        about = {field.name: getattr(self, field.name) for field in fields(self) if field.default != ()}
        content = about | {"sections": self.to_records()}
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """Return all rows as one CSV table, see `rows.to_csv`."""
        return to_csv(self.to_records())

    def print(self, console: Console | None = None) -> None:
        """Print the tables; where there is no terminal, nothing is cut or coloured."""
        console = wide_console(console)
        subtitle = self._progress if self.runs_done is None else f"{self.name}: {self._progress}"
        console.print(Text(self.question or self.name, style="bold"), Text(subtitle, style="dim"), sep="\n")
        for _, parts in self.sections(console.width):
            for part in parts:
                console.print("", part, sep="\n")
        console.print()

    def _repr_html_(self) -> str:
        """Return the tables as HTML, which a notebook shows."""
        return render_html(self.question or self.name, self._progress, self.sections(NOTEBOOK_WIDTH))

    def sections(self, width: int) -> Iterator[Section]:
        """Yield a title, and tables with words about them, for `width` columns: at least 80."""
        return report_sections(self, width)


def report(runs: Path, plots: bool = True, console: Console | None = None) -> Report:
    """Print the report on a folder of runs, and draw its figures into `RUNS/plots`.

    Args:
        runs: a grid's folder, or one with run folders.
        plots: draw figures.
        console: where to print; default: stdout.

    Raises:
        UserError: there are no runs.
    """
    study = read_study(runs)
    result = build_report(study)
    print_report(result, study, runs, plots, console)
    return result


def print_report(result: Report, study: Study, runs: Path, plots: bool, console: Console | None = None) -> None:
    """Print a report on a study that was read from a folder of runs, and draw its figures; see `report`."""
    console = wide_console(console)
    result.print(console)
    if plots and result.levels:
        from rlvid.study.plots import save_figures

        for path in save_figures(study, result.comparisons, runs / "plots"):
            console.print(Text(f"picture      {path} and .pdf"), soft_wrap=True)
    console.print(Text(f"run folders  {runs}\n{footnotes.NEXT_STEPS}"), soft_wrap=True)


def build_report(study: Study) -> Report:
    """Compute the rows of all tables. Raises UserError if runs were evaluated under different protocols."""
    protocol = protocol_in_words({run.folder.name: run.folder for run in study.runs if run.done})
    model = fit_seed_model(study)
    comparisons, successes = compare_arms(study, model), success_rows(study)
    measured = measure_keys(study) if study.levels else []
    return Report(
        name=study.name,
        question=study.question,
        control=study.control,
        runs_done=sum(run.done for run in study.runs),
        runs_planned=len(study.runs),
        equivalence_margin=study.equivalence_margin,
        endpoint=study.endpoint,
        most_runs=most_runs(study),
        protocol=protocol,
        plan_changes=study.plan_changes,
        controls=control_rows(study, comparisons),
        design=design_rows(study) if study.question else (),
        settings=study.differences,
        changed_plugins=changed_plugins(study.runs),
        arms=arm_rows(study, model),
        levels=level_rows(study, comparisons),
        accuracies=accuracy_rows(study),
        comparisons=comparisons,
        interactions=compare_interactions(study, model),
        successes=successes,
        success_differences=success_difference_rows(study, successes),
        splits=split_rows(study),
        effect_order=effect_order_rows(study, model),
        domains=domain_rows(study),
        measures=[row for key in measured for row in measure_rows(study, key)],
        measure_differences=[row for key in measured for row in measure_difference_rows(study, key)],
        **(noise_sections(study, model) if model else {}),
        looks=look_rows(study),
        missing=missing_rows(study),
    )
