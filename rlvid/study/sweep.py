"""Accuracy against a number that an axis of the grid varies, such as the amount of data or the number of frames."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes

from rlvid.config import load
from rlvid.data import benchmark
from rlvid.study.panels import Panels
from rlvid.study.stats import accuracy_interval
from rlvid.study.study import Study
from rlvid.study.style import line_styles

NUMBERED = re.compile(r"(\d+(?:\.\d+)?) +(\S.*)")  # "25 % of data"
MIN_POINTS = 3  # levels of an axis that make a line


def sweep_figure(study: Study) -> Panels | None:
    """Draw a row for each numeric axis, a column for each level of questions, a line for each choice on other axes.

    Returns None if no axis is numeric.
    """
    axes = numeric_axes(study)
    if not axes or not study.levels:
        return None
    panels = []
    for axis, numbers in axes.items():
        unit = next(match[2] for match in map(NUMBERED.fullmatch, numbers) if match)
        samples = training_samples(study, axis)
        label = "training samples" if samples else unit
        for level in study.levels:
            panels.append(
                partial(_draw_panel, study=study, axis=axis, numbers=samples or numbers, level=level, label=label)
            )
    return Panels(panels, size=(2.6, 2.6), per_row=len(study.levels), shared=True, legend_columns=3, margin=0.9)


def numeric_axes(study: Study) -> dict[str, dict[str, float]]:
    """Return axis -> level -> number, of the axes whose levels are all a number and then the same words."""
    levels: dict[str, dict[str, None]] = {}
    for run in study.runs:
        for axis, level in run.axis_levels.items():
            levels.setdefault(axis, {})[level] = None
    axes = {}
    for axis, names in levels.items():
        matches = [match for name in names if (match := NUMBERED.fullmatch(name))]
        if len(names) >= MIN_POINTS and len(matches) == len(names) and len({match[2] for match in matches}) == 1:
            axes[axis] = {match[0]: float(match[1]) for match in matches}
    return axes


def sweep_lines(study: Study, axis: str) -> dict[str, dict[str, str]]:
    """Return line -> level of this axis -> arm, where a line is a combination of levels of the other axes."""
    lines: dict[str, dict[str, str]] = {}
    for run in study.runs:
        if axis in run.axis_levels:
            others = ", ".join(level for name, level in run.axis_levels.items() if name != axis)
            lines.setdefault(others, {})[run.axis_levels[axis]] = run.arm
    return lines


def training_samples(study: Study, axis: str) -> dict[str, float]:
    """Return level -> number of training samples, if the axis varies `train.data_fraction`, else {}.

    {} also if the runs use different data, or if the data are not on this machine.
    """
    paths = {run.axis_levels[axis]: run.folder / "config.toml" for run in study.runs if axis in run.axis_levels}
    configs = {level: load(path) for level, path in paths.items() if path.is_file()}
    fractions = {level: config.train.data_fraction for level, config in configs.items()}
    names = {config.data for config in configs.values()}
    all_differ = len(fractions) == len(paths) and len(set(fractions.values())) == len(paths)
    if not all_differ or len(names) != 1:
        return {}
    [name] = names
    if name not in benchmark.EMBEDDED and not Path(name).is_dir():
        return {}
    file = benchmark.annotation_files(name)["train"].path
    total = sum(bool(line.strip()) for line in file.read_text().splitlines())
    return {level: max(1, round(fraction * total)) for level, fraction in fractions.items()}


def _draw_panel(panel: Axes, study: Study, axis: str, numbers: Mapping[str, float], level: str, label: str) -> None:
    """Draw accuracies on one level of questions against the numbers of an axis: means, intervals, a dash for each run.

    `label` is that of the x axis.
    """
    control_scores = study.column(study.control, level, "correct")
    if control_scores is not None:
        name = f"{study.control}, the control"
        panel.axhline(100 * control_scores.mean(), color="0.4", lw=1, ls="--", label=name)
    for (name, arms), (color, dash) in zip(sweep_lines(study, axis).items(), line_styles(), strict=False):
        points = []
        for axis_level, number in numbers.items():
            scores = study.column(arms[axis_level], level, "correct") if axis_level in arms else None
            if scores is None:
                continue
            interval = accuracy_interval(scores, study.video_ids(level))
            points.append((number, 100 * interval.value))
            ends = [100 * interval.low, 100 * interval.high]
            panel.plot([number, number], ends, color=color, lw=1.2, alpha=0.6)
            runs = 100 * scores.mean(axis=1)  # their mean may lie where no run ended
            panel.plot([number] * len(runs), runs, "_", ms=7, color=color, alpha=0.5)
        if points:
            panel.plot(*zip(*points, strict=True), dash, marker="o", ms=5, color=color, label=name)
    panel.set(title=f"{level}, {len(study.levels[level])} questions", xlabel=label, ylabel="accuracy, %")
    if min(numbers.values()) > 0:  # amounts, whose ratios matter; a dose starts from none
        panel.set_xscale("log")
    panel.set_xticks(list(numbers.values()), [f"{number:g}" for number in numbers.values()])
    panel.minorticks_off()
