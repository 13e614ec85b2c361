"""How many runs succeed against a number that an axis of the grid varies, and where each run ends."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from rlvid.study.panels import Panels
from rlvid.study.study import Study
from rlvid.study.style import line_styles
from rlvid.study.successes import ends_of_runs, success_rows
from rlvid.study.sweep import NUMBERED, numeric_axes, sweep_lines

ASIDE = 0.015  # of the axis: how far lines are moved apart, so that none covers another

Lines = Mapping[str, Mapping[str, float]]  # line -> arm -> where it is drawn on the axis


def success_figure(study: Study) -> Panels | None:
    """Draw two panels for each numeric axis: the share of runs that succeed, and the endpoint of each run.

    Returns None without a threshold of success, or if no axis is numeric.
    """
    rows, axes = {row.arm: row for row in success_rows(study)}, numeric_axes(study)
    if not rows or not axes:
        return None
    ends = ends_of_runs(study)
    threshold = 100 * next(iter(rows.values())).threshold

    def draw_chances(panel: Axes, lines: Lines, label: str) -> None:
        for (name, arms), (color, dash) in zip(lines.items(), line_styles(), strict=False):
            chances = {number: rows[arm].chance for arm, number in arms.items() if arm in rows}
            for number, chance in chances.items():
                panel.plot([number] * 2, [100 * chance.low, 100 * chance.high], color=color, lw=1.2, alpha=0.6)
            shares = [100 * chance.value for chance in chances.values()]
            panel.plot(list(chances), shares, dash, marker="o", ms=5, color=color, label=name)
        panel.set(title=f"runs above {threshold:g} %", ylabel="% of runs", xlabel=label, ylim=(-4, 104))

    def draw_ends(panel: Axes, lines: Lines, label: str) -> None:
        panel.axhline(threshold, color="0.4", lw=1, ls=":")
        for arms, (color, _) in zip(lines.values(), line_styles(), strict=False):
            for arm, number in arms.items():
                runs = 100 * ends.get(arm, np.zeros(0))
                panel.plot([number] * len(runs), runs, "o", ms=4, mew=0, color=color, alpha=0.5)
        panel.set(title="each run, all levels", ylabel=f"{study.endpoint}, %", xlabel=label)

    panels = []
    for axis, numbers in axes.items():
        unit = next(match[2] for match in map(NUMBERED.fullmatch, numbers) if match)
        panels += [partial(draw, lines=_lines(study, axis, numbers), label=unit) for draw in (draw_chances, draw_ends)]
    return Panels(panels, size=(3.6, 2.7), per_row=2, legend_columns=3)


def _lines(study: Study, axis: str, numbers: Mapping[str, float]) -> Lines:
    """Return the lines of `sweep_lines`, with a number for each arm, in their order on the axis."""
    lines, width = sweep_lines(study, axis), max(numbers.values()) - min(numbers.values())
    return {
        name: {
            arms[level]: number + ASIDE * width * (i - (len(lines) - 1) / 2)
            for level, number in sorted(numbers.items(), key=lambda item: item[1])
            if level in arms
        }
        for i, (name, arms) in enumerate(lines.items())
    }
