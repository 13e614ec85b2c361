"""What was found: accuracy by arm and level, the comparisons and their verdicts, and whatever is not finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rlvid.study.runs import Study, read
from rlvid.study.stats import Interval, accuracy, difference, holm, mcnemar, verdict

COLOURS = {"better": "bold green", "worse": "bold red", "not distinguishable": "yellow"}
NOTHING = "–"
WIDE = 98  # columns of the terminal from which on intervals stand beside their values, and are drawn
INTERVALS = (
    "With each accuracy its 95 % interval: for one seed Wilson's, which knows of new questions only; for several a "
    "bootstrap that draws new seeds, too, and is rough with fewer than five."
)
TESTS = (
    "p is McNemar's exact test on the same questions (for several seeds, the exact permutation test that extends it), "
    "adjusted for all {count} comparisons here (Holm). A verdict needs p < .05 and an interval without 0."
)
NEXT = """\
in each      samples/, eval/, metrics.jsonl: every completion, question and step
try next     rlvid train nano algorithm=dr_grpo       another algorithm: rlvid list algorithms
             rlvid train nano rewards.accuracy=0.5    another reward: rlvid list rewards, or yours
             rlvid grid experiments/noise_robustness.py --jobs 2"""


@dataclass(frozen=True)
class Comparison:
    """Arm `a` against arm `b` on one level; `p` is adjusted for all comparisons of the study."""

    a: str
    b: str
    level: str
    difference: Interval
    p: float

    @property
    def verdict(self) -> str:
        """In words."""
        return verdict(self.difference, self.p)


def report(runs: Path, plots: bool = True, console: Console | None = None) -> None:
    """Print what a folder of runs says, and draw it into `RUNS/plots`; UserError if there are no runs."""
    study = read(runs)
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=140, highlight=False)  # piped: nothing is cut or coloured
    console.print(tables(study, wide=console.width >= WIDE))
    if plots and study.levels:
        from rlvid.study.plots import draw

        for path in draw(study, runs / "plots"):
            console.print(Text(f"picture      {path}"), soft_wrap=True)
    console.print(Text(f"run folders  {runs}\n{NEXT}"), soft_wrap=True)


def tables(study: Study, wide: bool) -> RenderableType:
    """The whole report for a terminal of at least 80 columns; for a `wide` one, with drawings."""
    done = sum(result.done for result in study.results)
    parts: list[RenderableType] = [
        Text(study.question or study.name, style="bold"),
        Text(f"{study.name}: {done} of {len(study.results)} runs done", style="dim"),
    ]
    if study.levels:
        parts += ["", accuracies(study, wide), "", Text(INTERVALS, style="dim")]
    if comparisons := compare(study):
        parts += ["", verdicts(comparisons, wide), "", Text(TESTS.format(count=len(comparisons)), style="dim")]
    if any(map(study.remarks, study.results)):
        parts += ["", missing(study)]
    return Group(*parts, "")


def compare(study: Study) -> list[Comparison]:
    """The study's comparisons on every level that both arms have answered."""
    found: list[tuple[str, str, str, Interval, float]] = []
    for a, b in study.comparisons:
        for level in study.levels:
            paired = [r.seed for r in study.answered(a, level)] == [r.seed for r in study.answered(b, level)]
            x, y = study.column(a, level, "correct"), study.column(b, level, "correct")
            if x is not None and y is not None:
                found.append((a, b, level, difference(x, y, paired), mcnemar(x, y)))
    return [Comparison(*f[:4], p) for f, p in zip(found, holm([f[4] for f in found]), strict=True)]


def accuracies(study: Study, wide: bool) -> Table:
    """Arms by levels: mean over seeds and its interval, in per cent; how many replies keep to the format; tokens."""
    table = _table("arm", "seeds")
    for level, questions in study.levels.items():
        table.add_column(f"{escape(level)} [dim]n={len(questions)}", no_wrap=True)
    for name in ("format", "length"):
        table.add_column(name, justify="right", no_wrap=True)
    for arm, runs in study.arms.items():
        planned = sum(result.arm == arm for result in study.results)
        seeds = str(planned) if len(runs) == planned else f"{len(runs)} of {planned}"
        form, length = _mean(study, arm, "rewards/format"), _mean(study, arm, "length")
        table.add_row(
            Text(arm),
            seeds,
            *(_accuracy(study.column(arm, level, "correct"), "  " if wide else "\n") for level in study.levels),
            NOTHING if form is None else f"{form:.0%}",
            NOTHING if length is None else f"{length:.0f}",
        )
    table.add_section()
    blind = [f"{100 * study.blind(level):4.1f}" for level in study.levels]
    table.add_row("one letter always", "", *blind, style="dim")
    return table


def verdicts(comparisons: Sequence[Comparison], wide: bool) -> Table:
    """Every comparison; where there is room, drawn on one scale about zero."""
    table = _table("comparison")
    drawing = ["  worse  │  better"] if wide else []
    for name in ("level", "points", "95 % interval", *drawing, "p", "verdict"):
        table.add_column(name, justify="right" if name in ("points", "95 % interval", "p") else "left", no_wrap=True)
    reach = max(max(-c.difference.low, c.difference.high) for c in comparisons) or 1.0
    for (a, b), group in groupby(comparisons, key=lambda c: (c.a, c.b)):
        rows = list(group)
        table.add_row(
            Text(f"{a}\nagainst {b}"),
            Text("\n".join(c.level for c in rows)),
            "\n".join(f"{100 * c.difference.value:+.1f}" for c in rows),
            "\n".join(f"{100 * c.difference.low:+.1f} to {100 * c.difference.high:+.1f}" for c in rows),
            *(Text("\n").join(Text(strip(c.difference, reach), COLOURS[c.verdict]) for c in rows) for _ in drawing),
            "\n".join("<.001" if c.p < 0.001 else f"{c.p:.3f}".removeprefix("0") for c in rows),
            Text("\n").join(Text(c.verdict, COLOURS[c.verdict]) for c in rows),
            end_section=True,
        )
    return table


def strip(d: Interval, reach: float, width: int = 19) -> str:
    """An interval as a line of text from -reach to +reach, with zero in the middle: `         │  ━━●━━━`."""
    low, value, high, zero = (round((x / reach + 1) / 2 * (width - 1)) for x in (d.low, d.value, d.high, 0.0))
    cells = [" "] * low + ["━"] * (high - low + 1) + [" "] * (width - 1 - high)
    cells[value] = "●"
    cells[zero] = "┿" if d.low <= 0 <= d.high and zero != value else "●" if zero == value else "│"
    return "".join(cells)


def missing(study: Study) -> Table:
    """The runs and the answers that are not in the numbers above, and why."""
    table = _table("not in the numbers", "seed", "because")
    for result in study.results:
        if remarks := study.remarks(result):
            table.add_row(Text(result.arm), str(result.seed), Text("\n".join(remarks)))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _accuracy(scores: np.ndarray | None, gap: str) -> str:
    if scores is None:
        return NOTHING
    i = accuracy(scores)
    return f"[bold]{100 * i.value:4.1f}[/]{gap}{100 * i.low:4.1f}–{100 * i.high:.1f}"


def _mean(study: Study, arm: str, key: str) -> float | None:
    """A column's mean over levels."""
    columns = [c for level in study.levels if (c := study.column(arm, level, key)) is not None]
    return float(sum(c.mean() for c in columns) / len(columns)) if columns else None
