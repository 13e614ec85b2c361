"""All figures of a report: curves, accuracy by arm and level, comparisons, sweeps, noise, advantages, trade-offs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # not pyplot, so that a notebook's own figures are not touched

from rlvid.study.comparison import Comparison
from rlvid.study.curves import arm_style, checkpoint_curves, explores, learning_curves
from rlvid.study.forest import comparison_figure
from rlvid.study.noise_response import noise_responses
from rlvid.study.panels import Panels
from rlvid.study.runs import Run
from rlvid.study.stats import accuracy_interval
from rlvid.study.study import Study
from rlvid.study.style import COLORS, MARKERS, STYLE, line_styles, save_figure
from rlvid.study.success_figure import success_figure
from rlvid.study.sweep import sweep_figure
from rlvid.study.tradeoff import tradeoff_figure


def save_figures(study: Study, comparisons: Sequence[Comparison], folder: Path) -> list[Path]:
    """Save all figures that the finished runs allow as PNG, each with a PDF beside it; returns the paths of the PNGs.

    Args:
        study: the runs.
        comparisons: those of the study's report.
        folder: where the pictures are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = make_figures(study)
    with matplotlib.rc_context(STYLE):
        if compared := comparison_figure(comparisons, study.equivalence_margin, study.endpoint):
            figures["comparisons"] = compared.together()
        for name, figure in figures.items():
            save_figure(figure, folder / f"{name}.png")
    return [folder / f"{name}.png" for name in figures]


def make_figures(study: Study) -> dict[str, Figure]:
    """Return name -> figure, of all figures of the runs themselves, as far as those that are finished allow them."""
    with matplotlib.rc_context(STYLE):
        made = {name: figure for name, make in FIGURES.items() if (figure := make(study))}
        return {name: one.together() if isinstance(one, Panels) else one for name, one in made.items()}


def make_page_figures(study: Study) -> dict[str, list[Figure]]:
    """Return the figures of `make_figures` with a picture for each panel, which a page can wrap."""
    with matplotlib.rc_context(STYLE):
        made = {name: figure for name, make in FIGURES.items() if (figure := make(study))}
        return {name: one.apart() if isinstance(one, Panels) else [one] for name, one in made.items()}


def accuracy_figure(study: Study) -> Panels:
    """Draw each arm's accuracy on each level: mean and 95 % interval, a tick for each seed; control and chance."""
    arms = [arm for arm, runs in study.arms.items() if runs]

    def draw_level(panel: Axes, level: str) -> None:
        panel.axvline(100 * study.constant_accuracy(level), color="0.4", lw=1, ls=":", label="best constant letter")
        control_scores = study.column(study.control, level, "correct")
        if control_scores is not None:
            label = f"{study.control}, the control"
            panel.axvline(100 * control_scores.mean(), color="0.4", lw=1, ls="--", label=label)
        for y, arm in enumerate(arms):
            scores = study.column(arm, level, "correct")
            if scores is None:
                continue
            interval, (color, _) = accuracy_interval(scores, study.video_ids(level)), arm_style(study, arm)
            ends = [100 * interval.low, 100 * interval.high]
            panel.plot(ends, [y, y], color=color, lw=2, solid_capstyle="round")
            panel.plot(100 * interval.value, y, "o", color=color, ms=6)
            panel.plot(100 * scores.mean(1), [y + 0.27] * len(scores), "|", color=color, ms=6)
        title = f"{level}, {len(study.levels[level])} questions"
        panel.set(title=title, xlabel="accuracy, %", ylim=(len(arms) - 0.4, -0.6))
        panel.set_yticks(range(len(arms)), arms)
        panel.grid(False, axis="y")

    return Panels(
        [partial(draw_level, level=level) for level in study.levels],
        size=(2.9, 0.9 + 0.32 * len(arms)),
        per_row=len(study.levels),
        shared=True,
        shared_x=True,
        legend_columns=2,
        margin=2,
    )


def advantage_share_figure(study: Study) -> Figure | None:
    """Draw how far each arm's advantages move without each of its rewards, over the last half of training.

    Only arms whose rewards differ within groups are drawn. Returns None unless there are at least two rewards.
    """
    arms = {arm: [advantage_shares(run) for run in runs if explores(run)] for arm, runs in study.arms.items()}
    arms = {arm: shares for arm, shares in arms.items() if any(shares)}
    runs = [run_shares for shares in arms.values() for run_shares in shares]
    rewards = list(dict.fromkeys(reward for run_shares in runs for reward in run_shares))
    if len(rewards) < 2:
        return None
    figure = Figure(figsize=(5, 1.5 + 0.32 * len(arms)), layout="constrained")
    panel = figure.subplots()
    for reward, color, marker in zip(rewards, cycle(COLORS), cycle(MARKERS), strict=False):
        points = [
            (run_shares[reward], y)
            for y, shares in enumerate(arms.values())
            for run_shares in shares
            if reward in run_shares
        ]
        panel.plot(*zip(*points, strict=True), marker, color=color, ms=5, alpha=0.7, label=reward, clip_on=False)
    panel.set(xlabel="how far the advantages move without the reward,\n|A - A'|² / |A|²; a dot for each seed")
    panel.set(xlim=(min(0, panel.get_xlim()[0]), None), ylim=(len(arms) - 0.4, -0.6))
    panel.set_yticks(range(len(arms)), list(arms))
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def advantage_shares(run: Run) -> dict[str, float]:
    """Return reward -> its mean share of the advantages over the last half of a run's steps."""
    rows = run.metrics[len(run.metrics) // 2 :]
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith("advantage_share/"))
    return {key.split("/")[1]: float(np.mean([row[key] for row in rows if key in row])) for key in keys}


def noise_figure(study: Study) -> Figure | None:
    """Draw accuracy against Youden's J: a line through each method's points, every seed as a faint marker.

    Returns None if no method has two values of J.
    """
    responses = [response for response in noise_responses(study) if response.measurable]
    if not responses:
        return None
    noises = dict.fromkeys(cell.noise for response in responses for cell in response.cells)
    marker_of = dict(zip(noises, cycle(MARKERS), strict=False))
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    panel = figure.subplots()
    for response, (color, dash) in zip(responses, line_styles(), strict=False):
        youden_j, accuracy = ([p.youden_j for p in response.points], [100 * p.accuracy for p in response.points])
        panel.plot(youden_j, accuracy, dash, color=color, lw=1.5, label=response.method)
        for cell in response.measured_cells:
            marker = marker_of[cell.noise]
            by_seed = 100 * cell.accuracies  # (S,)
            panel.plot([cell.youden_j] * len(by_seed), by_seed, marker, color=color, ms=4, mew=0, alpha=0.35)
            panel.plot(cell.youden_j, by_seed.mean(), marker, color=color, ms=6)
    for noise, marker in marker_of.items():
        panel.plot([], [], marker, color="0.4", label=noise)
    panel.set(xlabel="Youden's J: share of the clean gradient that is left", ylabel="accuracy, mean over levels, %")
    panel.invert_xaxis()  # clean on the left, more noise to the right
    figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


FIGURES: Mapping[str, Callable[[Study], Figure | Panels | None]] = {
    "curves": learning_curves,
    "checkpoints": checkpoint_curves,
    "accuracy": accuracy_figure,
    "tradeoff": tradeoff_figure,
    "sweep": sweep_figure,
    "successes": success_figure,
    "noise": noise_figure,
    "shares": advantage_share_figure,
}
