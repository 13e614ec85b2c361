"""Accuracy against a number that an axis of the grid varies: how much data, how many frames."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlvid.config import load
from rlvid.data import benchmark
from rlvid.study.runs import Study
from rlvid.study.stats import accuracy
from rlvid.study.style import looks

NUMBERED = re.compile(r"(\d+(?:\.\d+)?) +(\S.*)")  # "25 % of data"
FEWEST = 3  # levels that make a line


def sweeps(study: Study) -> Figure | None:
    """A row for each axis of numbers, a column for each level of questions, a line for each choice on other axes."""
    found = axes(study)
    if not found or not study.levels:
        return None
    figure = Figure(figsize=(1.5 + 2.6 * len(study.levels), 0.6 + 2.6 * len(found)), layout="constrained")
    grid = figure.subplots(len(found), len(study.levels), sharey=True, squeeze=False)
    for row, (axis, numbers) in zip(grid, found.items(), strict=True):
        words = next(match[2] for match in map(NUMBERED.fullmatch, numbers) if match)
        counted = samples(study, axis)
        for panel, level in zip(row, study.levels, strict=True):
            _panel(panel, study, axis, counted or numbers, level)
            panel.set_xlabel("training samples" if counted else words)
        row[0].set_ylabel("accuracy, %")
        figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def axes(study: Study) -> dict[str, dict[str, float]]:
    """Axis -> level -> number, of axes all whose levels are a number and then the same words."""
    levels: dict[str, dict[str, None]] = {}
    for result in study.results:
        for axis, level in result.levels.items():
            levels.setdefault(axis, {})[level] = None
    found = {}
    for axis, names in levels.items():
        read = [NUMBERED.fullmatch(name) for name in names]
        if len(names) >= FEWEST and all(read) and len({match[2] for match in read if match}) == 1:
            found[axis] = {name: float(match[1]) for name, match in zip(names, read, strict=True) if match}
    return found


def lines(study: Study, axis: str) -> dict[str, dict[str, str]]:
    """The other axes' levels -> level of this axis -> arm."""
    found: dict[str, dict[str, str]] = {}
    for result in study.results:
        if axis in result.levels:
            rest = ", ".join(level for name, level in result.levels.items() if name != axis)
            found.setdefault(rest, {})[result.levels[axis]] = result.arm
    return found


def samples(study: Study, axis: str) -> dict[str, float]:
    """Level -> how many samples were trained on, where it is that which the axis varies and the data are at hand."""
    levels = {r.levels[axis]: r.folder / "config.toml" for r in study.results if axis in r.levels}
    configs = {level: load(path) for level, path in levels.items() if path.is_file()}
    fractions = {level: config.train.data_fraction for level, config in configs.items()}
    names = {config.data for config in configs.values()}
    if len(fractions) < len(levels) or len({*fractions.values()}) < len(levels) or len(names) > 1:
        return {}
    [name] = names
    if name not in benchmark.EMBEDDED and not Path(name).is_dir():
        return {}
    file = benchmark.sources(name)["train"].file
    total = sum(bool(line.strip()) for line in file.read_text().splitlines())
    return {level: max(1, round(fraction * total)) for level, fraction in fractions.items()}


def _panel(panel: Axes, study: Study, axis: str, numbers: Mapping[str, float], level: str) -> None:
    if (scores := study.column(study.control, level, "correct")) is not None:
        panel.axhline(100 * scores.mean(), color="0.4", lw=1, ls="--", label=f"{study.control}, the control")
    for (name, arms), (colour, dash) in zip(lines(study, axis).items(), looks(), strict=False):
        points = []
        for at, number in numbers.items():
            if at in arms and (scores := study.column(arms[at], level, "correct")) is not None:
                i = accuracy(scores, study.videos(level))
                points.append((number, 100 * i.value))
                panel.plot([number, number], [100 * i.low, 100 * i.high], color=colour, lw=1.2, alpha=0.6)
        if points:
            panel.plot(*zip(*points, strict=True), dash, marker="o", ms=5, color=colour, label=name)
    panel.set(title=f"{level}, {len(study.levels[level])} questions", xscale="log")
    panel.set_xticks(list(numbers.values()), [f"{number:g}" for number in numbers.values()])
    panel.minorticks_off()
