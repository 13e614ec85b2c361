"""The pictures: learning curves (the paper's Figure 3) and accuracy by arm and level, as PNG."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # itself, not pyplot: a notebook keeps its own pictures

from rlvid.study.noise_response import responses
from rlvid.study.runs import Result, Study
from rlvid.study.stats import accuracy
from rlvid.study.style import COLOURS, MARKS, STYLE, looks
from rlvid.study.sweep import sweeps

ACCURACY, LENGTH = "rewards/accuracy/mean", "completions/mean_length"
PANELS = {
    "reward": "reward",
    ACCURACY: "training accuracy, as labelled",
    LENGTH: "completion length, tokens",
    "entropy": "entropy, nats a token",
    "kl": "KL from the reference",
    "frac_all_correct": "groups that are all right",
    "frac_all_incorrect": "groups that are all wrong",
}
WIDE = 4  # panels in a row
WINDOW = 1 / 12  # of all steps: a smooth curve's mean is taken over so many


def draw(study: Study, folder: Path) -> list[Path]:
    """Draw whatever the finished runs allow into `folder`; returns the pictures' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = figures(study)
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png")
    return [folder / f"{name}.png" for name in drawn]


def figures(study: Study) -> dict[str, Figure]:
    """The pictures by name, as far as the finished runs allow them."""
    with matplotlib.rc_context(STYLE):
        return {name: figure for name, picture in PICTURES.items() if (figure := picture(study))}


def curves(study: Study) -> Figure | None:
    """Whatever moves, against steps: each seed thin, their mean, smoothed, thick. Last, accuracy against length.

    Left out are arms without a group that differs in reward: there the data demonstrates, and the curves are its own.
    """
    arms = {arm: runs for arm, runs in study.arms.items() if any(map(explores, runs))}
    if not arms:
        return None
    shown = panels(study, [run for runs in arms.values() for run in runs])
    rows = -(-(len(shown) + 1) // WIDE)
    figure = Figure(figsize=(13, 0.5 + 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, WIDE, squeeze=False).flatten()
    for axes, (key, title) in zip(grid, shown.items(), strict=False):
        for arm, runs in arms.items():
            window = 0 if key.startswith("eval/") else WINDOW
            _curve(axes, [series(run, key) for run in runs], arm, *look(study, arm), window)
        axes.set(title=title, xlabel="step")
    for arm, runs in arms.items():
        _path(grid[len(shown)], runs, *look(study, arm))
    grid[len(shown)].set(title="accuracy by length; dot: the end", xlabel=PANELS[LENGTH])
    for axes in grid[len(shown) + 1 :]:
        axes.set_axis_off()
    lines, names = grid[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=min(4, len(names)))
    return figure


def panels(study: Study, runs: Sequence[Result]) -> dict[str, str]:
    """Metric -> title, of what moves in any of the runs: `PANELS`, each reward by name, each level's accuracy."""
    every = dict.fromkeys(key for run in runs for row in run.metrics for key in row)
    named = {k: f"reward: {k.split('/')[1]}" for k in every if re.fullmatch("rewards/.+/mean", k) and k not in PANELS}
    levels = {f"eval/{level}/accuracy": f"{level} accuracy" for level in study.levels}
    return {
        key: title
        for key, title in (PANELS | named | levels).items()
        if any(len({*series(run, key)[:, 1]}) > 1 for run in runs)
    }


def checkpoints(study: Study) -> Figure | None:
    """Accuracy on each level as training goes on, of all arms; from the control at step 0, where it took no step."""
    keys = {level: f"eval/{level}/accuracy" for level in study.levels}
    arms = {
        arm: runs
        for arm, runs in study.arms.items()
        if any(len(series(run, k)) > 1 for run in runs for k in keys.values())
    }
    if not arms:
        return None
    figure = Figure(figsize=(1.5 + 2.6 * len(keys), 3.4), layout="constrained")
    grid = figure.subplots(1, len(keys), sharey=True, squeeze=False)
    for axes, (level, key) in zip(grid.flat, keys.items(), strict=True):
        start = average([series(run, key) for run in study.arms[study.control]], 0)[:1]
        for arm, runs in arms.items():
            seeds = [series(run, key) for run in runs]
            if len(start) and start[0, 0] == 0:
                seeds = [np.concatenate([start, points]) for points in seeds if len(points)]
            _curve(axes, [points * (1, 100) for points in seeds], arm, *look(study, arm), 0, "o")
        axes.set(title=f"{level}, {len(study.levels[level])} questions", xlabel="step")
    grid.flat[0].set_ylabel("accuracy, %")
    figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(4, len(arms)))
    return figure


def intervals(study: Study) -> Figure:
    """Accuracy of each arm on each level: mean and 95 % interval, every seed as a tick; control and chance as lines."""
    levels, arms = list(study.levels), [arm for arm, runs in study.arms.items() if runs]
    figure = Figure(figsize=(2 + 2.9 * len(levels), 1.4 + 0.32 * len(arms)), layout="constrained")
    grid = figure.subplots(1, len(levels), sharex=True, sharey=True, squeeze=False)
    for axes, level in zip(grid.flat, levels, strict=True):
        axes.axvline(100 * study.blind(level), color="0.4", lw=1, ls=":", label="one letter always")
        if (scores := study.column(study.control, level, "correct")) is not None:
            axes.axvline(100 * scores.mean(), color="0.4", lw=1, ls="--", label=f"{study.control}, the control")
        for place, arm in enumerate(arms):
            if (scores := study.column(arm, level, "correct")) is not None:
                i, (colour, _) = accuracy(scores, study.videos(level)), look(study, arm)
                axes.plot([100 * i.low, 100 * i.high], [place, place], color=colour, lw=2, solid_capstyle="round")
                axes.plot(100 * i.value, place, "o", color=colour, ms=6)
                axes.plot(100 * scores.mean(1), [place + 0.27] * len(scores), "|", color=colour, ms=6)
        axes.set(
            title=f"{level}, {len(study.levels[level])} questions", xlabel="accuracy, %", ylim=(len(arms) - 0.4, -0.6)
        )
        axes.grid(False, axis="y")
    grid.flat[0].set_yticks(range(len(arms)), arms)
    figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def shares(study: Study) -> Figure | None:
    """What decides the advantages of arms that explore: how far they move without each reward, over the last half."""
    arms = {arm: [run for run in runs if explores(run)] for arm, runs in study.arms.items()}
    found = {arm: [decided(run) for run in runs] for arm, runs in arms.items() if any(map(decided, runs))}
    names = list(dict.fromkeys(name for runs in found.values() for run in runs for name in run))
    if len(names) < 2:
        return None
    figure = Figure(figsize=(7.5, 1.2 + 0.32 * len(found)), layout="constrained")
    axes = figure.subplots()
    for name, colour, mark in zip(names, cycle(COLOURS), cycle(MARKS), strict=False):
        points = [(run[name], place) for place, runs in enumerate(found.values()) for run in runs if name in run]
        axes.plot(*zip(*points, strict=True), mark, color=colour, ms=5, alpha=0.7, label=name, clip_on=False)
    axes.set(xlabel="how far the advantages move without it, |A - A'|² / |A|²; a dot for each seed")
    axes.set(xlim=(min(0, axes.get_xlim()[0]), None), ylim=(len(found) - 0.4, -0.6))
    axes.set_yticks(range(len(found)), list(found))
    figure.legend(loc="outside right upper")
    return figure


def decided(run: Result) -> dict[str, float]:
    """Reward -> its mean share of the advantages over the last half of a run's steps."""
    rows = run.metrics[len(run.metrics) // 2 :]
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith("advantage_share/"))
    return {key.split("/")[1]: float(np.mean([row[key] for row in rows if key in row])) for key in keys}


def noise(study: Study) -> Figure | None:
    """Accuracy against Youden's J: a line for each method through its points, every seed as a faint point."""
    found = [response for response in responses(study) if response.measurable]
    if not found:
        return None
    marks = dict(zip(dict.fromkeys(cell.noise for r in found for cell in r.cells), cycle(MARKS), strict=False))
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for response, (colour, dash) in zip(found, looks(), strict=False):
        youden, accuracy, _ = response.points
        axes.plot(youden, 100 * accuracy, dash, color=colour, lw=1.5, label=response.method)
        for cell in response.counted:
            mark = marks[cell.noise]
            shares = 100 * response.shared(cell).mean(1)
            axes.plot([cell.youden] * len(shares), shares, mark, color=colour, ms=4, mew=0, alpha=0.35)
            axes.plot(cell.youden, shares.mean(), mark, color=colour, ms=6)
    for name, mark in marks.items():
        axes.plot([], [], mark, color="0.4", label=name)
    axes.set(xlabel="Youden's J: what the noise leaves of the clean gradient", ylabel="accuracy on all levels, %")
    axes.invert_xaxis()  # clean on the left, ever more noise to the right
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return figure


def explores(run: Result) -> bool:
    """Whether any of its groups ever differed in reward."""
    return any(row.get("frac_reward_zero_std", 1.0) < 1 for row in run.metrics)


def series(run: Result, key: str) -> np.ndarray:
    """(N, 2) steps and values of a metric."""
    return np.array([(row["step"], row[key]) for row in run.metrics if key in row], dtype=float).reshape(-1, 2)


def look(study: Study, arm: str) -> tuple[str, str]:
    """An arm's colour and dash, the same in every picture of arms."""
    return next(look for name, look in zip(study.arms, looks(), strict=False) if name == arm)


def average(seeds: Sequence[np.ndarray], window: float) -> np.ndarray:
    """(N, 2) of each seed -> (N', 2) of the steps that all have: the mean of seeds, and of a window of those steps."""
    seeds = [points for points in seeds if len(points)]
    shared = sorted(set.intersection(*(set(points[:, 0]) for points in seeds))) if seeds else []
    if not shared:
        return np.zeros((0, 2))
    mean = np.mean([points[np.isin(points[:, 0], shared), 1] for points in seeds], axis=0)
    ones = np.ones(max(1, int(len(mean) * window)))
    mean = np.convolve(mean, ones, "same") / np.convolve(np.ones(len(mean)), ones, "same")
    return np.stack([shared, mean], axis=1)


def _curve(
    axes: Axes, seeds: Sequence[np.ndarray], arm: str, colour: str, dash: str, window: float, mark: str = ""
) -> None:
    for points in seeds:
        axes.plot(*points.T, color=colour, lw=0.6, alpha=0.3, zorder=1)  # below every mean
    if len(mean := average(seeds, window)):
        axes.plot(*mean.T, dash, color=colour, lw=2, ms=4, label=arm, marker=mark)


def _path(axes: Axes, runs: Sequence[Result], colour: str, dash: str) -> None:
    length, accuracy = (average([series(run, key) for run in runs], 3 * WINDOW)[:, 1] for key in (LENGTH, ACCURACY))
    if len(length) == len(accuracy) > 0:
        axes.plot(length, accuracy, dash, color=colour, lw=1)
        axes.plot(length[-1], accuracy[-1], "o", color=colour, ms=6)


PICTURES: Mapping[str, Callable[[Study], Figure | None]] = {
    "curves": curves,
    "checkpoints": checkpoints,
    "accuracy": intervals,
    "sweep": sweeps,
    "noise": noise,
    "shares": shares,
}
