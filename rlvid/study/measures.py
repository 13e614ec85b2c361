"""Means of the other rewards that the evaluations measured, by arm and level, and differences from the control.

For rewards for consistency it is the agreement from their evidence, before their gate: behind the gate, an arm that is
right more often would look more consistent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlvid.study.runs import Row, Run
from rlvid.study.stats import Interval, bootstrap_interval, bootstrap_means, count_videos, difference_interval
from rlvid.study.study import Study

SHOWN_WITH_ACCURACY = ("rewards/accuracy", "rewards/format")


@dataclass(frozen=True)
class MeasureRow:
    """The mean of one reward for an arm on a level, over the questions to which it applies in all of the arm's runs."""

    measure: str
    arm: str
    level: str
    mean: Interval | None  # None if it applies to no question


@dataclass(frozen=True)
class MeasureDifferenceRow:
    """The mean of one reward for an arm minus that for the control, on all levels together.

    It is over the questions to which the reward applies in all runs of both arms.
    """

    measure: str
    arm: str
    control: str
    difference: Interval | None  # None if it applies to no question, or if runs answered other questions


def measure_keys(study: Study) -> list[str]:
    """Return the reward columns that the evaluations of at least two arms have."""
    arms_with: dict[str, set[str]] = {}
    for arm, runs in study.arms.items():
        for run in runs:
            for answers in run.answers.values():
                for key in next(iter(answers.values()), {}):
                    arms_with.setdefault(key, set()).add(arm)
    keys = [key for key, arms in arms_with.items() if key.startswith("rewards/") and len(arms) > 1]
    return [key for key in keys if key not in SHOWN_WITH_ACCURACY]


def measure_rows(study: Study, key: str) -> list[MeasureRow]:
    """Return a reward's means for each arm with finished runs, on each level."""
    name = key.removeprefix("rewards/")
    return [
        MeasureRow(name, arm, level, _mean(study, arm, level, key))
        for arm, runs in study.arms.items()
        if runs
        for level in study.levels
    ]


def measure_difference_rows(study: Study, key: str) -> list[MeasureDifferenceRow]:
    """Return a reward's differences from the control, for each other arm with finished runs."""
    name = key.removeprefix("rewards/")
    return [
        MeasureDifferenceRow(name, arm, study.control, _difference(study, arm, key))
        for arm, runs in study.arms.items()
        if runs and arm != study.control
    ]


def _values(runs: Sequence[Run], levels: Sequence[str], key: str) -> np.ndarray | None:
    """(S, Q) values of a reward on some levels, one after the other; nan where it does not apply."""
    values = []
    for run in runs:
        answers = [row for level in levels for row in run.answers[level].values()]
        values.append([_value(row, key) for row in answers])
    applies = any(value is not None for run_values in values for value in run_values)
    return np.array(values, dtype=float) if applies else None


def _value(row: Row, key: str) -> float | None:
    """The agreement that a reward for consistency left as evidence, else the reward."""
    agreement = row.get("evidence", {}).get(key.replace("rewards/", "agreement/", 1))
    return agreement[0] if agreement else row.get(key)


def _mean(study: Study, arm: str, level: str, key: str) -> Interval | None:
    values = _values(study.runs_on(arm, level), [level], key)
    if values is None:
        return None
    applies = ~np.isnan(values).any(0)  # (Q,)
    values, videos = values[:, applies], _renumber(study.video_ids(level)[applies])
    return bootstrap_interval(values.mean(), bootstrap_means(values, videos), count_videos(values, videos))


def _difference(study: Study, arm: str, key: str) -> Interval | None:
    runs, control_runs = (study.runs_on_all_levels(name) for name in (arm, study.control))
    values, control_values = (_values(group, list(study.levels), key) for group in (runs, control_runs))
    if values is None or control_values is None:
        return None
    applies = ~(np.isnan(values).any(0) | np.isnan(control_values).any(0))  # (Q,)
    seeds_paired = [run.seed for run in runs] == [run.seed for run in control_runs]
    videos = _renumber(study.video_ids()[applies])
    return difference_interval(values[:, applies], control_values[:, applies], seeds_paired, videos)


def _renumber(videos: np.ndarray) -> np.ndarray:
    """Number the videos that are left from 0 without gaps."""
    return np.unique(videos, return_inverse=True)[1]
