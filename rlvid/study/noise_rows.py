"""The tables about noise as rows of numbers; see `rows`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from rlvid.study.noise_response import NoiseResponse
from rlvid.study.stats import Interval, accuracy_interval
from rlvid.study.study import Study


@dataclass(frozen=True)
class NoiseCellRow:
    """A method under one noise: the error rates of its rewards, and its accuracy."""

    method: str
    noise: str
    seeds: int  # runs that answered all levels
    planned_seeds: int
    false_positive_rate: float  # mean reward of a wrong answer; nan if it was not counted
    false_negative_rate: float  # mean reward withheld from a right answer; nan if it was not counted
    youden_j: float  # nan if it is not known
    level_accuracy: Mapping[str, float | None]  # level -> mean accuracy
    accuracy: Interval  # over the questions of all levels together


@dataclass(frozen=True)
class NoiseResponseRow:
    """A method's kept gain and slope, see `NoiseResponse`."""

    method: str
    cells: int  # with finished runs and a J
    planned_cells: int
    seeds: int  # that all of these cells have
    lowest_j: float
    kept_gain: Interval | None  # None: no gain to keep, or no base
    slope: Interval | None
    unmeasured: tuple[str, ...]  # the other cells' noises


def noise_cell_rows(study: Study, responses: Sequence[NoiseResponse]) -> list[NoiseCellRow]:
    """Return a row for each method and noise with runs that answered all levels."""
    rows = []
    for response in responses:
        for cell in response.cells:
            if not cell.scores:
                continue
            columns = {level: study.column(cell.arm, level, "correct") for level in study.levels}
            rows.append(
                NoiseCellRow(
                    method=response.method,
                    noise=cell.noise,
                    seeds=len(cell.scores),
                    planned_seeds=cell.planned_seeds,
                    false_positive_rate=cell.rates.get("false_positive_rate", nan),
                    false_negative_rate=cell.rates.get("false_negative_rate", nan),
                    youden_j=cell.youden_j,
                    level_accuracy={
                        level: None if scores is None else float(scores.mean()) for level, scores in columns.items()
                    },
                    accuracy=accuracy_interval(np.stack(list(cell.scores.values())), response.videos),
                )
            )
    return rows


def noise_response_rows(responses: Sequence[NoiseResponse]) -> list[NoiseResponseRow]:
    """Return a row for each method."""
    return [
        NoiseResponseRow(
            method=response.method,
            cells=len(response.measured_cells),
            planned_cells=len(response.cells),
            seeds=len(response.shared_seeds),
            lowest_j=response.lowest_j,
            kept_gain=response.kept_gain,
            slope=response.slope,
            unmeasured=tuple(response.unmeasured),
        )
        for response in responses
    ]
