"""The tables about noise as rows of numbers; see `rows`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import Any

import numpy as np

from rlvid.study.contrasts import NO_GAIN, ONE_SEED, Ratio, difference, gain_kept, keeps, one_sided, ratio, slope
from rlvid.study.noise_comparison import compare_noise_costs, compare_under_noise
from rlvid.study.noise_response import NoiseResponse, comparable, noise_responses, untrained_arm
from rlvid.study.power import ALPHA
from rlvid.study.seed_model import SeedModel
from rlvid.study.stats import Interval, accuracy_interval
from rlvid.study.study import Study

KEPT = 0.8  # share of the gain that a method is asked to keep
NO_CLEAN = "no clean cell"
NO_BASE = "no untrained arm"


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
    """A method's slope over J and the gain it keeps, on all levels; each column's intervals hold together with 95 %."""

    method: str
    cells: int  # with finished runs and a J
    planned_cells: int
    lowest_j: float
    slope: Interval | None  # accuracy per unit of J, by least squares; None for fewer than two values of J
    gain_kept: Interval | None  # share of the gain over the untrained arm, mean over J; see `contrasts.gain_kept`
    note: str  # why there is no gain kept, such as "no gain to keep"; "" if there is
    unmeasured: tuple[str, ...]  # the other cells' noises


@dataclass(frozen=True)
class NoiseGainRow:
    """The share of its clean gain over the untrained arm that a method keeps under one noise, on all levels."""

    method: str
    noise: str
    gain_kept: Interval  # all rows' hold together with 95 %; without bound where the gain is not shown as surely
    keeps: str  # whether at least 80 % are kept, by one-sided tests: "yes", "no" or "undecided"


def noise_sections(study: Study, model: SeedModel) -> dict[str, Any]:
    """The rows of all tables about noise, by their names in a `Report`; all are empty without an axis "noise"."""
    responses = [r for r in noise_responses(study) if any(cell.scores for cell in r.cells)]
    compared, base = comparable(responses, model), untrained_arm(study) if responses else None
    response_rows = noise_response_rows(compared, model, base)
    with_gain = [row.method for row in response_rows if row.gain_kept]
    return {
        "noise_cells": noise_cell_rows(study, responses),
        "noise_responses": response_rows,
        "noise_gains": noise_gain_rows(compared, with_gain, model, base) if base else [],
        "noise_costs": compare_noise_costs(study, model, compared),
        "noise_comparisons": compare_under_noise(study, model, compared),
    }


def noise_cell_rows(study: Study, responses: Sequence[NoiseResponse]) -> list[NoiseCellRow]:
    """Return a row for each method and noise with runs that answered all levels."""
    rows, videos = [], study.video_ids()
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
                    accuracy=accuracy_interval(np.stack(list(cell.scores.values())), videos),
                )
            )
    return rows


def noise_response_rows(
    responses: Sequence[NoiseResponse], model: SeedModel, base: str | None
) -> list[NoiseResponseRow]:
    """Return a row for each method; `base` is the untrained arm that gains are counted from."""
    alpha = _alpha(responses)
    rows = []
    for response in responses:
        slope_of_method = None
        if response.measurable:
            contrast = model.contrast(slope(response.weighted_points))
            slope_of_method = Interval(contrast.difference, *contrast.interval(alpha))
        kept, note = _gain_kept(response, model, base, alpha)
        rows.append(
            NoiseResponseRow(
                method=response.method,
                cells=len(response.measured_cells),
                planned_cells=len(response.cells),
                lowest_j=response.lowest_j,
                slope=slope_of_method,
                gain_kept=kept,
                note=note,
                unmeasured=tuple(response.unmeasured),
            )
        )
    return rows


def noise_gain_rows(
    responses: Sequence[NoiseResponse], with_gain: Collection[str], model: SeedModel, base: str
) -> list[NoiseGainRow]:
    """Return a row for each noisy cell of the methods in `with_gain`, which have a clean cell that beats `base`.

    An error rate of 5 % is divided equally between the noisy cells of all methods, with a gain or without.
    """
    cells = [(r.clean_cell, cell) for r in responses if r.clean_cell for cell in r.measured_cells if not cell.is_clean]
    alpha = ALPHA / max(1, len(cells))
    rows = []
    for clean, cell in cells:
        if cell.method not in with_gain:
            continue
        top, bottom = difference(cell.arm, base), difference(clean.arm, base)
        kept = ratio(model, top, bottom, alpha=alpha)
        if kept is None:  # the gain is shown at its own part of the error rate, but not at this smaller one
            kept = Ratio(model.contrast(top).difference / model.contrast(bottom).difference, -inf, inf)
        words = one_sided(model.contrast(keeps(cell.arm, clean.arm, base, KEPT)), alpha)
        rows.append(NoiseGainRow(cell.method, cell.noise, Interval(kept.value, kept.low, kept.high), words))
    return rows


def _alpha(responses: Sequence[NoiseResponse]) -> float:
    """Each method's part of the error rate."""
    return ALPHA / max(1, sum(response.measurable for response in responses))


def _gain_kept(
    response: NoiseResponse, model: SeedModel, base: str | None, alpha: float
) -> tuple[Interval | None, str]:
    """The gain that a method keeps, mean over J; or None, and why."""
    clean = response.clean_cell
    if clean is None:
        return None, NO_CLEAN
    if base is None or base not in model.cells:
        return None, NO_BASE
    if not response.measurable:
        return None, ""
    kept = gain_kept(model, response.weighted_points, clean.arm, base, alpha=alpha)
    if kept is None:
        return None, ONE_SEED if model.one_seed else NO_GAIN
    return Interval(kept.value, kept.low, kept.high), ""
