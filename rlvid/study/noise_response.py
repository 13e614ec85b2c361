"""Accuracy as a function of noise, measured by Youden's J: the share of the clean gradient that the noise leaves.

A grid with an axis "noise" is read as methods by noise cells; a method is a combination of levels of the other axes.
Accuracy is the mean over all levels. Everything is computed from the cells that have finished runs; the others are
listed. `noise_comparison` and `noise_rows` take contrasts over the points of these responses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isnan, nan
from pathlib import Path

import numpy as np

from rlvid.study.contrasts import Point
from rlvid.study.runs import Row, Run
from rlvid.study.seed_model import SeedModel
from rlvid.study.study import Study
from rlvid.utils.files import read_json, read_toml

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
    accuracies: np.ndarray  # (S,) of each of these runs: mean over levels
    rates: Mapping[str, float]  # means over seeds of `verifier_rates`
    is_clean: bool  # no noise is configured

    @property
    def youden_j(self) -> float:
        """Youden's J; nan if no run has it."""
        return self.rates.get("youden_j", nan)


@dataclass(frozen=True, eq=False)
class NoisePoint:
    """The cells of a method whose J are nearly equal: one point of its response."""

    cells: Sequence[NoiseCell]

    @property
    def youden_j(self) -> float:
        """Mean of the cells' J."""
        return float(np.mean([cell.youden_j for cell in self.cells]))

    @property
    def accuracy(self) -> float:
        """Mean of the cells' accuracies."""
        return float(np.mean([cell.accuracies.mean() for cell in self.cells]))


@dataclass(frozen=True, eq=False)
class NoiseResponse:
    """A method's accuracy as a function of J. J is taken as known."""

    method: str
    cells: Sequence[NoiseCell]

    @cached_property
    def measured_cells(self) -> list[NoiseCell]:
        """The cells that have finished runs and a J."""
        return [cell for cell in self.cells if cell.scores and not isnan(cell.youden_j)]

    @cached_property
    def unmeasured(self) -> list[str]:
        """The noises without a finished run, or without a J."""
        return [cell.noise for cell in self.cells if cell not in self.measured_cells]

    @cached_property
    def clean_cell(self) -> NoiseCell | None:
        """The cell without noise; None if it has no finished run."""
        return next((cell for cell in self.measured_cells if cell.is_clean), None)

    @cached_property
    def points(self) -> list[NoisePoint]:
        """The measured cells by increasing J; cells within `J_TOLERANCE` of the one before are the same point."""
        points: list[list[NoiseCell]] = []
        for cell in sorted(self.measured_cells, key=lambda cell: cell.youden_j):
            if points and cell.youden_j - points[-1][-1].youden_j <= J_TOLERANCE:
                points[-1].append(cell)
            else:
                points.append([cell])
        return [NoisePoint(cells) for cells in points]

    @property
    def weighted_points(self) -> list[Point]:
        """Each point as the mean of its arms and its J, for the contrasts of `contrasts`."""
        return [({cell.arm: 1 / len(p.cells) for cell in p.cells}, p.youden_j) for p in self.points]

    @property
    def lowest_j(self) -> float:
        """The smallest J of a measured cell; nan if there is none."""
        return min((cell.youden_j for cell in self.measured_cells), default=nan)

    @property
    def measurable(self) -> bool:
        """Whether there are at least two values of J."""
        return len(self.points) > 1


def noise_responses(study: Study) -> list[NoiseResponse]:
    """Return one response for each method, in the grid's order; [] for a grid without an axis "noise"."""
    runs: dict[tuple[str, str], list[Run]] = {}
    for run in study.runs:
        if NOISE_AXIS in run.axis_levels:
            method = ", ".join(level for axis, level in run.axis_levels.items() if axis != NOISE_AXIS)
            runs.setdefault((method, run.axis_levels[NOISE_AXIS]), []).append(run)
    cells = [_cell(study, method, noise, planned) for (method, noise), planned in runs.items()]
    methods = dict.fromkeys(cell.method for cell in cells)
    return [NoiseResponse(method, [cell for cell in cells if cell.method == method]) for method in methods]


def comparable(responses: Sequence[NoiseResponse], model: SeedModel) -> list[NoiseResponse]:
    """The responses without the runs of arms that the model does not have on every level."""
    whole = {arm for arm, levels in model.cells.items() if levels.keys() >= set(model.levels)}
    return [
        replace(r, cells=[cell if cell.arm in whole else replace(cell, scores={}) for cell in r.cells])
        for r in responses
    ]


def untrained_arm(study: Study) -> str | None:
    """The arm that gains are counted from: the control, if it is untrained, else the first untrained arm with runs.

    An arm is untrained if its runs take no step. None if there is none, or if it is under noise.
    """
    arms = dict.fromkeys((study.control, *study.unseeded, *study.arms))
    return next((arm for arm in arms if (runs := study.arms.get(arm)) and all(map(_is_untrained, runs))), None)


def _is_untrained(run: Run) -> bool:
    return NOISE_AXIS not in run.axis_levels and run.took_no_step


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
    return not read_toml(folder / "config.toml")["noise"]["kind"]


def _cell(study: Study, method: str, noise: str, planned: Sequence[Run]) -> NoiseCell:
    """Build a cell from its planned runs: those that answered all levels count."""
    arm = planned[0].arm
    scores = study.scores_on_all_levels(arm) if study.levels else {}
    runs = [run for run in planned if run.done and run.seed in scores]
    rates = [verifier_rates(run) for run in runs]
    known = set.intersection(*map(set, rates)) if rates else set()
    mean_rates = {key: float(np.mean([row[key] for row in rates])) for key in known}
    accuracies = study.accuracies(arm).mean(1) if scores else np.zeros(0)
    clean = all(is_clean(run.folder) for run in runs)
    return NoiseCell(method, noise, arm, len(planned), scores, accuracies, mean_rates, clean)
