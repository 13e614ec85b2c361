"""How accuracy answers to noise: against Youden's J, the share of the clean gradient that a cell's verdicts leave.

A grid with an axis "noise" is read as methods, the combinations of its other axes' levels, in noise cells. Accuracy is
over all levels' questions together. Everything is computed from the cells that finished; what is missing is named.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan, nan
from pathlib import Path

import numpy as np

from rlvid.study.runs import Result, Row, Study
from rlvid.study.stats import Interval, means, percentiles
from rlvid.utils.files import read_json

AXIS = "noise"
RATES = ("false_positive_rate", "false_negative_rate", "youden_j")
NEAR = 0.03  # cells whose J is so close are one point, else the order of near equals would decide an area


@dataclass(frozen=True, eq=False)
class Cell:
    """A method under one noise: its finished runs' answers and what their verdicts were worth."""

    method: str
    noise: str
    arm: str
    planned: int  # seeds
    scores: Mapping[int, np.ndarray]  # seed -> (Q,)
    rates: Mapping[str, float]  # means over seeds, see `rates`
    clean: bool  # no noise is configured
    runs: frozenset[Path] = frozenset()  # their folders; methods that are the same here share them

    @property
    def youden(self) -> float:
        """J; nan where no run tells."""
        return self.rates.get("youden_j", nan)


@dataclass(frozen=True, eq=False)
class Response:
    """A method's accuracy as a function of J, over the seeds that all its finished cells have.

    Cells of nearly equal J count as one point, the mean of their J and of their accuracies; those without a J are left
    out. In the bootstrap the same seeds and the same videos are drawn for all cells; J is taken as given.
    """

    method: str
    cells: Sequence[Cell]
    videos: np.ndarray

    @cached_property
    def counted(self) -> list[Cell]:
        """The cells that have runs and a J."""
        return [cell for cell in self.cells if cell.scores and not isnan(cell.youden)]

    @cached_property
    def missing(self) -> list[str]:
        """Noises of which there is no finished run, or no J."""
        return [cell.noise for cell in self.cells if cell not in self.counted]

    @cached_property
    def seeds(self) -> list[int]:
        """Those that every counted cell has."""
        return sorted(set.intersection(*(set(cell.scores) for cell in self.counted))) if self.counted else []

    @cached_property
    def points(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(K,) values of J, rising; (K,) accuracies there; (K, RESAMPLES) of the bootstrap. It needs `seeds`."""
        cells = sorted(self.counted, key=lambda cell: cell.youden)
        youden = np.array([cell.youden for cell in cells])
        place = np.cumsum(np.diff(youden, prepend=youden[:1]) > NEAR)  # (cells,) each one's point
        share = (place == np.arange(place[-1] + 1)[:, None]) / np.bincount(place)[:, None]  # (K, cells)
        scores = [self.shared(cell) for cell in cells]
        return share @ youden, share @ [s.mean() for s in scores], share @ [means(s, self.videos) for s in scores]

    def shared(self, cell: Cell) -> np.ndarray:
        """(S, Q) a cell's scores under the seeds that count."""
        return np.stack([cell.scores[seed] for seed in self.seeds])

    @property
    def least(self) -> float:
        """The smallest J; nan without any."""
        return min((cell.youden for cell in self.counted), default=nan)

    @property
    def measurable(self) -> bool:
        """Whether there are seeds in common and at least two values of J."""
        return bool(self.seeds) and len(self.points[0]) > 1

    @property
    def slope(self) -> Interval | None:
        """The dose-response slope, accuracy per unit of J: least squares through the points."""
        if not self.measurable:
            return None
        youden, accuracy, drawn = self.points
        weights = (youden - youden.mean()) / ((youden - youden.mean()) ** 2).sum()
        return percentiles(weights @ accuracy, weights @ drawn, self.videos.max() + 1)

    @property
    def area(self) -> Interval | None:
        """The robustness area: the mean over J in [min J, 1] of accuracy / clean accuracy. 1: noise costs nothing.

        The integral of accuracy over J by the trapezoid rule through the points, over 1 - min J, over the clean
        cell's accuracy. None without a clean cell. It depends on min J: compare areas from the same one.
        """
        clean = [cell for cell in self.counted if cell.clean]
        if not self.measurable or not clean:
            return None
        youden, accuracy, drawn = self.points
        scores = self.shared(clean[0])
        width = youden[-1] - youden[0]
        return percentiles(
            np.trapezoid(accuracy, youden) / width / scores.mean(),
            np.trapezoid(drawn, youden, axis=0) / width / means(scores, self.videos),
            self.videos.max() + 1,
        )


def responses(study: Study) -> list[Response]:
    """One for each method, in the grid's order; none for a grid without an axis of noise."""
    arms: dict[tuple[str, str], list[Result]] = {}
    for result in study.results:
        if AXIS in result.levels:
            method = ", ".join(level for axis, level in result.levels.items() if axis != AXIS)
            arms.setdefault((method, result.levels[AXIS]), []).append(result)
    cells = [_cell(study, method, noise, results) for (method, noise), results in arms.items()]
    methods = dict.fromkeys(cell.method for cell in cells)
    videos = study.videos()
    return [Response(method, [cell for cell in cells if cell.method == method], videos) for method in methods]


def rates(run: Result) -> dict[str, float]:
    """What a run's verdicts were worth: `false_positive_rate`, `false_negative_rate`, `youden_j`.

    Counted over its own completions, where its algorithm had any judged on accuracy; else only J, by the closed form in
    noise.json (of the verdicts that the noise is on); empty where there is none, as where only the evidence is bad.
    """
    if clean(run.folder):
        return {"false_positive_rate": 0.0, "false_negative_rate": 0.0, "youden_j": 1.0}
    last: Row = next((row for row in reversed(run.metrics) if "noise/youden_j" in row), {})
    counted = {name: last[f"noise/{name}"] for name in RATES if f"noise/{name}" in last}
    stated = (read_json(run.folder / "noise.json") or {}).get("youden_j")
    return counted or ({} if stated is None else {"youden_j": stated})


def clean(folder: Path) -> bool:
    """Whether a run's config names no noise."""
    return not tomllib.loads((folder / "config.toml").read_text())["noise"]["kind"]


def _cell(study: Study, method: str, noise: str, results: Sequence[Result]) -> Cell:
    arm = results[0].arm
    scores = study.pooled(arm) if study.levels else {}
    runs = [result for result in results if result.done and result.seed in scores]
    folders = frozenset(run.folder for run in runs)
    found = [rates(run) for run in runs]
    known = set.intersection(*map(set, found)) if found else set()
    worth = {key: float(np.mean([row[key] for row in found])) for key in known}
    return Cell(method, noise, arm, len(results), scores, worth, all(map(clean, folders)), folders)
