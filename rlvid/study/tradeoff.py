"""The endpoint of an experiment against accuracy: does an arm gain the one at the expense of the other?"""

from __future__ import annotations

from itertools import cycle

import numpy as np
from matplotlib.figure import Figure

from rlvid.study.curves import arm_style
from rlvid.study.runs import Run
from rlvid.study.study import Study
from rlvid.study.style import MARKERS


def tradeoff_figure(study: Study) -> Figure | None:
    """Draw each arm's endpoint against its accuracy, means over levels: a large mark, and a faint one for each seed.

    Dashed lines go through the control. Returns None if the endpoint is accuracy.
    """
    points = {arm: endpoint_and_accuracy(study, arm) for arm, runs in study.arms.items() if runs}
    points = {arm: by_seed for arm, by_seed in points.items() if len(by_seed)}
    if study.endpoint == "accuracy" or not points:
        return None
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    panel = figure.subplots()
    for (arm, by_seed), marker in zip(points.items(), cycle(MARKERS), strict=False):
        color, _ = arm_style(study, arm)
        panel.plot(*by_seed.T, marker, color=color, ms=4, mew=0, alpha=0.4)
        panel.plot(*by_seed.mean(0), marker, color=color, ms=8, label=arm)
    if study.control in points:
        accuracy, endpoint = points[study.control].mean(0)
        panel.axvline(accuracy, color="0.4", lw=1, ls="--", zorder=0)
        panel.axhline(endpoint, color="0.4", lw=1, ls="--", zorder=0)
    panel.set(xlabel="accuracy, mean over levels, %", ylabel=f"{study.endpoint}, mean over levels, %")
    figure.legend(loc="outside right upper")
    return figure


def endpoint_and_accuracy(study: Study, arm: str) -> np.ndarray:
    """Return (S, 2): accuracy and endpoint of each run that answered all levels, in per cent, means over levels.

    The endpoint is over the questions to which it applies, as in the report: see `compared.endpoint_scores`.
    """
    column = study.endpoint_column
    levels = [level for level in study.levels if study.applies[level].any()]
    return np.array(
        [
            [
                100 * np.mean([_values(run, level, "correct").mean() for level in study.levels]),
                100 * np.mean([_values(run, level, column)[study.applies[level]].mean() for level in levels]),
            ]
            for run in study.runs_on_all_levels(arm)
        ]
    )


def _values(run: Run, level: str, column: str) -> np.ndarray:
    return np.array([float(row.get(column) or 0) for row in run.answers[level].values()])
