"""What was found: accuracy by arm and level, the comparisons and their verdicts, and whatever is not finished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from rlvid.study import measures
from rlvid.study.comparison import Pair, compare, pairs, pairs_in_noise
from rlvid.study.design import design
from rlvid.study.noise_response import NEAR, responses
from rlvid.study.runs import Study, read
from rlvid.study.tables import accuracies, aggregates, by_domain, missing, noise_cells, noise_response, verdicts

WIDE = 100  # columns of the terminal from which on intervals stand beside their values, and are drawn
INTERVALS = (
    "With each accuracy its 95 % interval: for one seed Wilson's, which knows of new questions only; for several a "
    "bootstrap that draws new seeds, too, and is rough with fewer than five. Questions about one video are drawn "
    "together: by the design effect fewer unlike ones would say as much. 80 % power from: the least true difference "
    "of two runs that so many questions show so often."
)
AGGREGATES = (
    "IQM: the mean of the middle half of all seeds' accuracies on all levels. Beats the control: the chance that a "
    "seed does, mean over levels. Both, and their intervals, know of new seeds only (arXiv:2108.13264)."
)
TESTS = (
    "p is exact: by chance the arms would have exchanged their answers about a video, all at once (McNemar's test, "
    "where there is one seed and a video has one question); adjusted for all {count} comparisons here (Holm). Better "
    "or worse needs p < .05 and an interval without 0; equivalent, an interval within "
    "{equivalence_margin:g} points of 0, not adjusted."
)
TAKES = (
    " Times, seeds: so many times the questions, or so many seeds, would show what was observed with 80 % power among "
    "as many comparisons; as rough as what was observed."
)
RATES = (
    "FP and FN: what a wrong answer was paid, and a right one was not, on average over the run's own completions. J = "
    "1 - FP - FN, Youden's: the share of the clean gradient that is left; without FP and FN, by its closed form."
)
AREAS = (
    "Area: the mean over J from the least to 1 of accuracy over clean accuracy; 1 means that noise costs nothing. "
    "Slope: points of accuracy per unit of J, by least squares. Both over the seeds that all of a method's cells have; "
    "cells within {near} of J are one point."
)
NEXT = """\
in each      samples/, eval/, metrics.jsonl: every completion, question and step
try next     rlvid train nano algorithm=dr_grpo       another algorithm: rlvid list algorithms
             rlvid train nano rewards.accuracy=0.5    another reward: rlvid list rewards, or yours
             rlvid grid experiments/noise_robustness.py --jobs 2"""


def report(runs: Path, plots: bool = True, console: Console | None = None) -> None:
    """Print what a folder of runs says, and draw it into `RUNS/plots`; UserError if there are no runs."""
    study = read(runs)
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=140, highlight=False)  # piped: nothing is cut or coloured
    console.print(tables(study, console.width))
    if plots and study.levels:
        from rlvid.study.plots import draw

        for path in draw(study, runs / "plots"):
            console.print(Text(f"picture      {path}"), soft_wrap=True)
    console.print(Text(f"run folders  {runs}\n{NEXT}"), soft_wrap=True)


def tables(study: Study, width: int) -> RenderableType:
    """The whole report for a terminal of so many columns, 80 at least; from `WIDE` on with drawings."""
    done = sum(result.done for result in study.results)
    head = Text(study.question or study.name, style="bold")
    parts: list[RenderableType] = [head, Text(f"{study.name}: {done} of {len(study.results)} runs done", style="dim")]
    for _, found in sections(study, width):
        for part in found:
            parts += ["", part]
    return Group(*parts, "")


def sections(study: Study, width: int) -> Iterator[tuple[str, list[Table | Text]]]:
    """What there is to say, in order: a title, and tables with words about them. The terminal and the page show it."""
    compared, wide = pairs(study), width >= WIDE
    if study.question:
        yield "Design", [design(study)]
    if study.levels:
        yield "Accuracy", [*accuracies(study, compared, width), Text(INTERVALS, style="dim")]
    if compared:
        yield "Comparisons", _verdicts(compared, study.equivalence_margin, wide)
    if domains := by_domain(study, width):
        yield "By domain", domains
    if study.levels and (keys := measures.measured(study)):
        yield "Besides accuracy", [measures.table(study, key) for key in keys]
    if found := [response for response in responses(study) if any(cell.scores for cell in response.cells)]:
        words = [Text(AREAS.format(near=NEAR), style="dim")]
        if gaps := [f"{r.method}: {', '.join(r.missing)}" for r in found if r.missing and r.counted]:
            words += [Text(f"Without a finished run, or without a J, and left out: {'; '.join(gaps)}.", style="yellow")]
        yield "Noise", [noise_cells(study, found), Text(RATES, style="dim"), noise_response(found), *words]
        if compared := pairs_in_noise(found):
            head = Text("In the same noise, all levels together", style="bold")
            yield "Methods in the same noise", [head, *_verdicts(compared, study.equivalence_margin, wide)]
    elif study.levels and any(len(runs) > 2 for runs in study.arms.values()):
        yield "All levels at once", [aggregates(study), Text(AGGREGATES, style="dim")]
    if any(map(study.remarks, study.results)):
        yield "Not in the numbers", [missing(study)]


def _verdicts(compared: Sequence[Pair], equivalence_margin: float, wide: bool) -> list[Table | Text]:
    words = TESTS.format(count=len(compared), equivalence_margin=100 * equivalence_margin) + (TAKES if wide else "")
    return [verdicts(compare(compared, equivalence_margin), wide), Text(words, style="dim")]
