"""Curves over training steps: metrics (the paper's Figure 3), and accuracy at checkpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes

from rlvid.study.panels import Panels, step_axis
from rlvid.study.runs import Run
from rlvid.study.study import Study
from rlvid.study.style import line_styles

ACCURACY, LENGTH = "rewards/accuracy/mean", "completions/mean_length"
METRIC_TITLES = {
    "reward": "reward",
    ACCURACY: "training accuracy, as labelled",
    LENGTH: "completion length, tokens",
    "entropy": "entropy, nats per token",
    "kl": "KL from the reference",
    "frac_all_correct": "groups with only right answers",
    "frac_all_incorrect": "groups with only wrong answers",
}
PANELS_PER_ROW = 4
TITLE_WIDTH = 30  # characters of a title that fit above a panel
SMOOTHING = 1 / 12  # of all steps: the window of the moving average in a smoothed curve


def learning_curves(study: Study) -> Panels | None:
    """Draw each metric that changes against steps: each seed thin, their smoothed mean thick.

    The last panel is accuracy against length. Arms whose groups never differ in reward are left out: they learn from
    demonstrations, and these metrics describe the data. Returns None if no arm is left.
    """
    arms = {arm: runs for arm, runs in study.arms.items() if any(map(explores, runs))}
    if not arms:
        return None

    def draw_metric(panel: Axes, key: str, title: str) -> None:
        for arm, runs in arms.items():
            _draw_curve(panel, [metric_series(run, key) for run in runs], arm, *arm_style(study, arm), SMOOTHING)
        panel.set_title(fill(title, TITLE_WIDTH))
        step_axis(panel)

    def draw_accuracy_by_length(panel: Axes) -> None:
        for arm, runs in arms.items():
            _draw_accuracy_by_length(panel, runs, *arm_style(study, arm))
        panel.set(title="training accuracy by length", xlabel=f"{METRIC_TITLES[LENGTH]}; dot: last step")

    titles = panel_titles([run for runs in arms.values() for run in runs])
    panels = [partial(draw_metric, key=key, title=title) for key, title in titles.items()]
    return Panels([*panels, draw_accuracy_by_length], size=(3.25, 2.6), per_row=PANELS_PER_ROW)


def panel_titles(runs: Sequence[Run]) -> dict[str, str]:
    """Return metric -> title of a panel, of the metrics that change in any of the runs.

    They are `METRIC_TITLES`, then each other reward. `checkpoint_curves` draws the accuracy on each level.
    """
    keys = dict.fromkeys(key for run in runs for row in run.metrics for key in row)
    rewards = [key for key in keys if re.fullmatch("rewards/.+/mean", key) and key not in METRIC_TITLES]
    titles = METRIC_TITLES | {key: f"reward: {key.split('/')[1]}" for key in rewards}
    return {
        key: title for key, title in titles.items() if any(len({*metric_series(run, key)[:, 1]}) > 1 for run in runs)
    }


def checkpoint_curves(study: Study) -> Panels | None:
    """Draw accuracy on each level against steps, of the arms that were evaluated several times.

    Curves start at the control's accuracy at step 0, if the control is the untrained model. Returns None if no run has
    several evaluations.
    """
    keys = {level: f"eval/{level}/accuracy" for level in study.levels}
    arms = {
        arm: runs
        for arm, runs in study.arms.items()
        if any(len(metric_series(run, key)) > 1 for run in runs for key in keys.values())
    }
    if not arms:
        return None

    def draw_level(panel: Axes, level: str) -> None:
        control = mean_over_seeds([metric_series(run, keys[level]) for run in study.arms[study.control]], 0)
        untrained = control[:1] if len(control) and control[0, 0] == 0 else control[:0]
        for arm, runs in arms.items():
            seeds = [metric_series(run, keys[level]) for run in runs]
            seeds = [np.concatenate([untrained, points]) for points in seeds if len(points)]
            percent = [points * (1, 100) for points in seeds]
            _draw_curve(panel, percent, arm, *arm_style(study, arm), 0, marker="o")
        panel.set(title=f"{level}, {len(study.levels[level])} questions", ylabel="accuracy, %")
        step_axis(panel)

    return Panels([partial(draw_level, level=level) for level in keys], size=(2.6, 3.0), shared=True, margin=0.9)


def explores(run: Run) -> bool:
    """Return whether the rewards of any of a run's groups differed."""
    return any(row.get("frac_reward_zero_std", 1.0) < 1 for row in run.metrics)


def metric_series(run: Run, key: str) -> np.ndarray:
    """Return (N, 2) steps and values of a metric."""
    return np.array([(row["step"], row[key]) for row in run.metrics if key in row], dtype=float).reshape(-1, 2)


def arm_style(study: Study, arm: str) -> tuple[str, str]:
    """Return an arm's color and dash, the same in every figure."""
    return next(style for name, style in zip(study.arms, line_styles(), strict=False) if name == arm)


def mean_over_seeds(seeds: Sequence[np.ndarray], smoothing: float) -> np.ndarray:
    """Average (N, 2) steps and values of each seed over the seeds; returns (N', 2) for the steps that all seeds have.

    `smoothing` is the share of these steps over which a moving average is taken; 0: none. Near the ends the window is
    cut off.
    """
    seeds = [points for points in seeds if len(points)]
    shared = sorted(set.intersection(*(set(points[:, 0]) for points in seeds))) if seeds else []
    if not shared:
        return np.zeros((0, 2))
    mean = np.mean([points[np.isin(points[:, 0], shared), 1] for points in seeds], axis=0)
    window = np.ones(max(1, int(len(mean) * smoothing)))
    mean = np.convolve(mean, window, "same") / np.convolve(np.ones(len(mean)), window, "same")
    return np.stack([shared, mean], axis=1)


def _draw_curve(
    panel: Axes, seeds: Sequence[np.ndarray], arm: str, color: str, dash: str, smoothing: float, marker: str = ""
) -> None:
    """Draw each seed's (N, 2) points thin, and their mean thick."""
    for points in seeds:
        panel.plot(*points.T, color=color, lw=0.6, alpha=0.3, zorder=1)  # below all means
    mean = mean_over_seeds(seeds, smoothing)
    if len(mean):
        panel.plot(*mean.T, dash, color=color, lw=2, ms=4, label=arm, marker=marker)


def _draw_accuracy_by_length(panel: Axes, runs: Sequence[Run], color: str, dash: str) -> None:
    """Draw the path of an arm's mean accuracy and completion length over training, with a dot at its end."""
    length, accuracy = (
        mean_over_seeds([metric_series(run, key) for run in runs], 3 * SMOOTHING)[:, 1] for key in (LENGTH, ACCURACY)
    )
    if len(length) == len(accuracy) > 0:
        panel.plot(length, accuracy, dash, color=color, lw=1)
        panel.plot(length[-1], accuracy[-1], "o", color=color, ms=6)
