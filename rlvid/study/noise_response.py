"""Accuracy as a function of noise, measured by Youden's J: the share of the clean gradient that the noise leaves.

A grid with an axis "noise" is read as methods by noise cells; a method is a combination of levels of the other axes.
Accuracy is over the questions of all levels together. Everything is computed from the cells that have finished runs;
the others are listed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan, nan
from pathlib import Path

import numpy as np

from rlvid.study.runs import Row, Run
from rlvid.study.stats import Interval, bootstrap_interval, bootstrap_means
from rlvid.study.study import Study
from rlvid.utils.files import read_json

NOISE_AXIS = "noise"
VERIFIER_RATES = ("false_positive_rate", "false_negative_rate", "youden_j")
J_TOLERANCE = 0.03  # cells whose J differ by at most this are one point; else chance would order them


@dataclass(frozen=True, eq=False)
class NoiseCell:
    """One method under one noise: the answers of its finished runs, and the error rates of its rewards."""

    method: str
    noise: str
    arm: str
    planned_seeds: int
    scores: Mapping[int, np.ndarray]  # seed -> (Q,)
    rates: Mapping[str, float]  # means over seeds of `verifier_rates`
    is_clean: bool  # no noise is configured
    folders: frozenset[Path] = frozenset()  # of its runs; methods that are identical under a noise share them

    @property
    def youden_j(self) -> float:
        """Youden's J; nan if no run has it."""
        return self.rates.get("youden_j", nan)


@dataclass(frozen=True, eq=False)
class NoiseResponse:
    """A method's accuracy as a function of J, over the seeds that all its measured cells have.

    Cells of nearly equal J are one point, the mean of their J and of their accuracies. The bootstrap draws the same
    seeds and the same videos for all cells; J is taken as known.
    """

    method: str
    cells: Sequence[NoiseCell]
    videos: np.ndarray  # (Q,), see `Study.video_ids`
    base_scores: np.ndarray | None = None  # (S, Q) of the model before training; None without an untrained arm

    @cached_property
    def measured_cells(self) -> list[NoiseCell]:
        """The cells that have finished runs and a J."""
        return [cell for cell in self.cells if cell.scores and not isnan(cell.youden_j)]

    @cached_property
    def unmeasured(self) -> list[str]:
        """The noises without a finished run, or without a J."""
        return [cell.noise for cell in self.cells if cell not in self.measured_cells]

    @cached_property
    def shared_seeds(self) -> list[int]:
        """The seeds that every measured cell has."""
        if not self.measured_cells:
            return []
        return sorted(set.intersection(*(set(cell.scores) for cell in self.measured_cells)))

    @cached_property
    def points(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(K,) increasing values of J, (K,) accuracies, and (K, RESAMPLES) bootstrap accuracies.

        It needs at least one shared seed.
        """
        cells = sorted(self.measured_cells, key=lambda cell: cell.youden_j)
        youden_j = np.array([cell.youden_j for cell in cells])
        is_new_point = np.diff(youden_j, prepend=youden_j[:1]) > J_TOLERANCE
        point = np.cumsum(is_new_point)  # (cells,) index of each cell's point, such as [0, 0, 1, 2, 2]
        members = point == np.arange(point[-1] + 1)[:, None]  # (K, cells) bool
        mean_of = members / np.bincount(point)[:, None]  # (K, cells): a matrix that averages each point's cells
        scores = [self.shared_scores(cell) for cell in cells]
        accuracies = [cell_scores.mean() for cell_scores in scores]
        resampled = [bootstrap_means(cell_scores, self.videos) for cell_scores in scores]
        return mean_of @ youden_j, mean_of @ accuracies, mean_of @ resampled

    def shared_scores(self, cell: NoiseCell) -> np.ndarray:
        """Return (S, Q) scores of a cell's runs with the shared seeds."""
        return np.stack([cell.scores[seed] for seed in self.shared_seeds])

    @property
    def lowest_j(self) -> float:
        """The smallest J of a measured cell; nan if there is none."""
        return min((cell.youden_j for cell in self.measured_cells), default=nan)

    @property
    def measurable(self) -> bool:
        """Whether there are shared seeds and at least two values of J."""
        return bool(self.shared_seeds) and len(self.points[0]) > 1

    @property
    def slope(self) -> Interval | None:
        """The dose-response slope, accuracy per unit of J, by least squares; None if it is not measurable."""
        if not self.measurable:
            return None
        youden_j, accuracy, resampled = self.points
        weights = (youden_j - youden_j.mean()) / ((youden_j - youden_j.mean()) ** 2).sum()
        return bootstrap_interval(weights @ accuracy, weights @ resampled, self.videos.max() + 1)

    @property
    def kept_gain(self) -> Interval | None:
        """The mean over J in [lowest J, 1] of (accuracy - base) / (clean accuracy - base). 1: noise costs nothing.

        0: nothing was learnt. The numerator is the integral of accuracy over J by the trapezoid rule, divided by 1 -
        lowest J, minus the accuracy of the untrained base. None without a clean cell, without a base, or without a gain
        to keep: where the interval of the clean gain reaches down to 0, a ratio to it says nothing. It depends on the
        lowest J: only compare values with the same one.
        """
        clean_cells = [cell for cell in self.measured_cells if cell.is_clean]
        if not self.measurable or not clean_cells or self.base_scores is None:
            return None
        youden_j, accuracy, resampled = self.points
        width, videos = youden_j[-1] - youden_j[0], self.videos.max() + 1
        clean_scores, base = self.shared_scores(clean_cells[0]), self.base_scores.mean()
        resampled_base = bootstrap_means(self.base_scores, self.videos)
        resampled_clean_gain = bootstrap_means(clean_scores, self.videos) - resampled_base
        clean_gain = bootstrap_interval(clean_scores.mean() - base, resampled_clean_gain, videos)
        if clean_gain.low <= 0:
            return None
        gain = np.trapezoid(accuracy, youden_j) / width - base
        resampled_gain = np.trapezoid(resampled, youden_j, axis=0) / width - resampled_base
        ratios = resampled_gain / np.maximum(resampled_clean_gain, clean_gain.low)
        return bootstrap_interval(gain / clean_gain.value, ratios, videos)


def noise_responses(study: Study) -> list[NoiseResponse]:
    """Return one response for each method, in the grid's order; [] for a grid without an axis "noise"."""
    runs: dict[tuple[str, str], list[Run]] = {}
    for run in study.runs:
        if NOISE_AXIS in run.axis_levels:
            method = ", ".join(level for axis, level in run.axis_levels.items() if axis != NOISE_AXIS)
            runs.setdefault((method, run.axis_levels[NOISE_AXIS]), []).append(run)
    cells = [_cell(study, method, noise, planned) for (method, noise), planned in runs.items()]
    methods = dict.fromkeys(cell.method for cell in cells)
    videos, base_scores = study.video_ids(), _base_scores(study)
    return [
        NoiseResponse(method, [cell for cell in cells if cell.method == method], videos, base_scores)
        for method in methods
    ]


def _base_scores(study: Study) -> np.ndarray | None:
    """Return (S, Q) scores of the untrained arm, the control if that is untrained; None without one."""
    for arm in sorted(study.unseeded, key=lambda arm: arm != study.control):
        scores = study.scores_on_all_levels(arm) if study.levels else {}
        if scores:
            return np.stack(list(scores.values()))
    return None


def verifier_rates(run: Run) -> dict[str, float]:
    """Return a run's `false_positive_rate`, `false_negative_rate` and `youden_j`, as far as they are known.

    They are counted over the run's own completions if its algorithm had any judged for accuracy. Else only J is known,
    by the closed form in noise.json, which is about the verdicts that the noise falls on. {} if there is no J, such as
    when only the evidence is corrupted.
    """
    if is_clean(run.folder):
        return {"false_positive_rate": 0.0, "false_negative_rate": 0.0, "youden_j": 1.0}
    last: Row = next((row for row in reversed(run.metrics) if "noise/youden_j" in row), {})
    counted = {name: last[f"noise/{name}"] for name in VERIFIER_RATES if f"noise/{name}" in last}
    if counted:
        return counted
    closed_form = (read_json(run.folder / "noise.json") or {}).get("youden_j")
    return {} if closed_form is None else {"youden_j": closed_form}


def is_clean(folder: Path) -> bool:
    """Return whether a run's config names no noise."""
    return not tomllib.loads((folder / "config.toml").read_text())["noise"]["kind"]


def _cell(study: Study, method: str, noise: str, planned: Sequence[Run]) -> NoiseCell:
    """Build a cell from its planned runs: those that answered all levels count."""
    arm = planned[0].arm
    scores = study.scores_on_all_levels(arm) if study.levels else {}
    runs = [run for run in planned if run.done and run.seed in scores]
    folders = frozenset(run.folder for run in runs)
    rates = [verifier_rates(run) for run in runs]
    known = set.intersection(*map(set, rates)) if rates else set()
    mean_rates = {key: float(np.mean([row[key] for row in rates])) for key in known}
    return NoiseCell(method, noise, arm, len(planned), scores, mean_rates, all(map(is_clean, folders)), folders)
