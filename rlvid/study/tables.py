"""The report's tables, for a terminal of at least 80 columns; where there is room, intervals are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isnan, nan

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rlvid.study.aggregate import iqm, probability_of_improvement
from rlvid.study.comparison import Comparison, Pair
from rlvid.study.noise_response import Response
from rlvid.study.power import detectable
from rlvid.study.runs import UNBEGUN, Study
from rlvid.study.stats import Interval, accuracy, design_effect

COLOURS = {"better": "bold green", "worse": "bold red", "equivalent": "cyan", "not": "yellow"}  # by the first word
NOTHING = "–"
ARM, SEEDS, AFTER = 16, 7, 15  # columns for an arm's name at most, for its seeds, and for format and length
BESIDE, UNDER = 17, 11  # and for an accuracy with its interval beside or under it


def accuracies(study: Study, pairs: Sequence[Pair], width: int) -> list[Table]:
    """Arms by levels: mean over seeds and its interval, in per cent; how many replies keep to the format; tokens.

    Intervals stand under their values where there is no room beside them; where there is none for the levels, they go
    on in a further table, and format and length go. Below, for each level: what one gets without looking; how many
    videos there are, and the mean design effect, where videos have several questions; the least difference that one
    seed each shows with 80 % power, by the pairs' mean discordance.
    """
    room = width - _longest(study) - SEEDS
    gap = "  " if room >= len(study.levels) * BESIDE + AFTER else "\n"
    after = AFTER if len(gap) > 1 or room >= len(study.levels) * UNDER + AFTER else 0
    chunks = _chunks(list(study.levels), (room - after) // (BESIDE if len(gap) > 1 else UNDER))
    return [_accuracies(study, pairs, levels, gap, bool(after)) for levels in chunks]


def _accuracies(study: Study, pairs: Sequence[Pair], levels: Sequence[str], gap: str, after: bool) -> Table:
    table = _arms(study, [f"{escape(level)} [dim]n={len(study.levels[level])}" for level in levels])
    for name in ("format", "length") if after else ():
        table.add_column(name, justify="right", no_wrap=True)
    for arm, runs in study.arms.items():
        if not runs:
            continue  # `missing` names it
        form, length = _mean(study, arm, "rewards/format"), _mean(study, arm, "length")
        means = (NOTHING if form is None else f"{form:.0%}", NOTHING if length is None else f"{length:.0f}")
        cells = [_accuracy(study.column(arm, level, "correct"), study.videos(level), gap) for level in levels]
        table.add_row(*_about(study, arm), *cells, *means[: 2 * after])
    table.add_section()
    below = {"one letter always": [f"{100 * study.blind(level):4.1f}" for level in levels]}
    videos = {level: study.videos(level) for level in levels}
    if any(len(set(v)) < len(v) for v in videos.values()):
        scores = {level: [study.column(arm, level, "correct") for arm in study.arms] for level in levels}
        effects = [[design_effect(s, videos[k]) for s in columns if s is not None] for k, columns in scores.items()]
        below["videos"] = [f"{len(set(v)):4}" for v in videos.values()]
        below["design effect"] = [f"{np.mean(found):4.1f}" for found in effects]
    if pairs:
        discordance = [[pair.discordance for pair in pairs if pair.place == level] or [nan] for level in levels]
        least = [detectable(len(videos[k]), float(np.mean(d))) for k, d in zip(videos, discordance, strict=True)]
        below["80 % power from"] = [f"{100 * points:4.1f}" for points in least]
    for name, cells in below.items():
        table.add_row(name, "", *cells, style="dim")
    return table


def by_domain(study: Study, width: int) -> list[Table | Text]:
    """For each level of several domains: arms by domains, mean over seeds and its interval, in per cent."""
    room = width - _longest(study) - SEEDS
    tables: list[Table | Text] = []
    for level in study.levels:
        domains, videos = study.domains(level), study.videos(level)
        gap, each = ("  ", BESIDE) if room >= len(domains) * BESIDE else ("\n", max(UNDER, 2 + max(map(len, domains))))
        for names in _chunks(list(domains), room // each) if len(domains) > 1 else ():
            table = _arms(study, [f"{escape(name)}\n[dim]n={len(domains[name])}" for name in names])
            table.columns[0].header = f"{escape(level)}\narm"
            for arm in (arm for arm, runs in study.arms.items() if runs):
                scores = study.column(arm, level, "correct")
                cells = []
                for places in (domains[name] for name in names):
                    own = None if scores is None else scores[:, places]
                    cells.append(_accuracy(own, np.unique(videos[places], return_inverse=True)[1], gap))
                table.add_row(*_about(study, arm), *cells)
            tables.append(table)
    return tables


def aggregates(study: Study) -> Table:
    """Arms over seeds and levels together: interquartile mean, and how likely a seed beats one of the control."""
    table = _table("arm, all levels")
    for name in ("IQM", "95 % interval", "beats the control", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    shares = {arm: scores for arm in study.arms if len(scores := study.shares(arm))}
    control = shares.get(study.control)
    for arm, scores in shares.items():
        i = iqm(scores)
        row = [f"{100 * i.value:.1f}", f"{100 * i.low:.1f}–{100 * i.high:.1f}" if len(scores) > 1 else ""]
        if arm != study.control and control is not None:
            wins = probability_of_improvement(scores, control)
            row += [f"{wins.value:.2f}", f"{wins.low:.2f}–{wins.high:.2f}"]
        table.add_row(Text(arm), *row)
    return table


def verdicts(comparisons: Sequence[Comparison], wide: bool) -> Table:
    """Every comparison; where there is room, drawn on one scale about zero, and what it would take to tell."""
    table = _table("comparison")
    drawing = ["worse│better"] if wide else []
    taking = ["times", "seeds"] if wide else []
    for name in ("points", "95 % interval", *drawing, "p", "verdict", *taking):
        table.add_column(name, justify="left" if name in ("verdict", *drawing) else "right", no_wrap=True)
    reach = max(max(-c.difference.low, c.difference.high) for c in comparisons) or 1.0
    for (a, b), group in groupby(comparisons, key=lambda c: (c.a, c.b)):
        table.add_row(Text(f"{a}\nagainst {b}"))
        for c in group:
            colour = COLOURS[c.verdict.split()[0]]
            table.add_row(
                Text(f" {c.place}"),
                f"{100 * c.difference.value:+.1f}",
                f"{100 * c.difference.low:+.1f} to {100 * c.difference.high:+.1f}",
                *(Strip(c.difference, reach, colour) for _ in drawing),
                "<.001" if c.p < 0.001 else f"{c.p:.3f}".removeprefix("0"),
                Text(c.verdict, colour),
                *would_take(c)[: len(taking)],
            )
        table.add_section()
    return table


def would_take(comparison: Comparison) -> tuple[str, str]:
    """How many times the questions, or how many seeds, an undecided comparison asks for; from 100 on, a dash."""
    if not comparison.verdict.startswith("not"):
        return "", ""
    times, seeds = comparison.needed.questions, comparison.needed.seeds
    digits = 1 if times < 9.95 else 0
    return f"x{times:.{digits}f}" if times < 100 else NOTHING, f"{seeds:.0f}" if seeds < 100 else NOTHING


def noise_cells(study: Study, responses: Sequence[Response]) -> Table:
    """Each method's noise cells: realised rates, accuracy on each level and on all questions together."""
    table = _table("method, noise", "seeds")
    for name in ("FP", "FN", "J", *map(escape, study.levels), "all", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for response in responses:
        table.add_row(Text(response.method, "bold"))
        for cell in (cell for cell in response.cells if cell.scores):
            wrongly, missed = (cell.rates.get(f"false_{kind}_rate", nan) for kind in ("positive", "negative"))
            levels = [study.column(cell.arm, level, "correct") for level in study.levels]
            i = accuracy(np.stack(list(cell.scores.values())), response.videos) if cell.scores else None
            table.add_row(
                Text(f"  {cell.noise}"),
                _of(len(cell.scores), cell.planned),
                *map(_rate, (wrongly, missed, cell.youden)),
                *(NOTHING if scores is None else f"{100 * scores.mean():.1f}" for scores in levels),
                f"{100 * i.value:.1f}" if i else NOTHING,
                f"{100 * i.low:.1f}–{100 * i.high:.1f}" if i else "",
            )
        table.add_section()
    return table


def noise_response(responses: Sequence[Response]) -> Table:
    """Each method's robustness area and dose-response slope, and the cells that they had to do without."""
    table = _table("method")
    for name in ("cells", "seeds", "least J", "area", "95 % interval", "slope", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for response in responses:
        area, slope = response.area, response.slope
        table.add_row(
            Text(response.method),
            _of(len(response.counted), len(response.cells)),
            str(len(response.seeds)),
            _rate(response.least),
            *((f"{area.value:.3f}", f"{area.low:.3f}–{area.high:.3f}") if area else (NOTHING, "")),
            *(
                (f"{100 * slope.value:+.1f}", f"{100 * slope.low:+.1f} to {100 * slope.high:+.1f}")
                if slope
                else (NOTHING, "")
            ),
        )
    return table


def missing(study: Study) -> Table:
    """The runs and the answers that are not in the numbers above, and why; in one line the arms that none began."""
    table = _table("not in the numbers", "seed", "because")
    unbegun = []
    for arm, results in groupby(study.results, key=lambda result: result.arm):
        seeds: dict[str, list[str]] = {}
        for result in results:
            for remark in study.remarks(result):
                seeds.setdefault(remark, []).append(str(result.seed))
        if list(seeds) == [UNBEGUN] and not study.arms[arm]:
            unbegun.append(arm)
            continue
        for remark, which in seeds.items():
            table.add_row(Text(arm), " ".join(which), Text(remark))
    if unbegun:
        table.add_row(f"{len(unbegun)} arms", "all", Text(f"{UNBEGUN}: {'; '.join(unbegun)}"))
    return table


@dataclass(frozen=True)
class Strip:
    """An interval drawn from -reach to +reach: letters in a terminal; the page draws a line."""

    interval: Interval
    reach: float
    colour: str

    def __rich__(self) -> Text:
        """The letters."""
        return Text(strip(self.interval, self.reach), self.colour)


def strip(d: Interval, reach: float, width: int = 11) -> str:
    """An interval as a line of text from -reach to +reach, with zero in the middle: `         │  ━━●━━━`."""
    low, value, high, zero = (round((x / reach + 1) / 2 * (width - 1)) for x in (d.low, d.value, d.high, 0.0))
    cells = [" "] * low + ["━"] * (high - low + 1) + [" "] * (width - 1 - high)
    cells[value] = "●"
    cells[zero] = "┿" if d.low <= 0 <= d.high and zero != value else "●" if zero == value else "│"
    return "".join(cells)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _of(found: int, planned: int) -> str:
    return str(planned) if found == planned else f"{found} of {planned}"


def _rate(rate: float) -> str:
    return NOTHING if isnan(rate) else f"{rate:.2f}".replace("0.", ".")


def _arms(study: Study, places: Sequence[str]) -> Table:
    """A table of arms, with a column for each place where they are asked."""
    table = _table("arm", "seeds")
    table.columns[0].min_width = _longest(study) - 2
    table.columns[1].no_wrap = True
    for place in places:
        table.add_column(place, no_wrap=True)
    return table


def _about(study: Study, arm: str) -> tuple[Text, str]:
    return Text(arm), _of(len(study.arms[arm]), sum(result.arm == arm for result in study.results))


def _longest(study: Study) -> int:
    """The width of a column of arms, which holds what is longer in several lines."""
    return 2 + min(ARM, max(map(len, study.arms)))


def _chunks(names: Sequence[str], size: int) -> list[Sequence[str]]:
    size = max(1, size)
    return [names[i : i + size] for i in range(0, len(names), size)]


def _accuracy(scores: np.ndarray | None, videos: np.ndarray, gap: str) -> str:
    if scores is None:
        return NOTHING
    i = accuracy(scores, videos)
    return f"[bold]{100 * i.value:4.1f}[/]{gap}{100 * i.low:4.1f}–{100 * i.high:.1f}"


def _mean(study: Study, arm: str, key: str) -> float | None:
    """A column's mean over levels."""
    columns = [c for level in study.levels if (c := study.column(arm, level, key)) is not None]
    return float(sum(c.mean() for c in columns) / len(columns)) if columns else None
