"""Means of the other rewards that the evaluations measured, by arm and level, and differences from the control.

For rewards for consistency it is the agreement from their evidence, before their gate: behind the gate, an arm that is
right more often would look more consistent.

Differences have the intervals of the model of seeds, as the endpoint has. Those of single means are bootstraps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlvid.study.compared import arms_with_the_same_runs, unseeded_arms
from rlvid.study.contrasts import difference
from rlvid.study.power import ALPHA
from rlvid.study.runs import Row, Run
from rlvid.study.seed_model import SeedModel
from rlvid.study.stats import Interval, bootstrap_interval, bootstrap_means, count_videos
from rlvid.study.study import Study

SHOWN_WITH_ACCURACY = ("rewards/accuracy", "rewards/format")


@dataclass(frozen=True)
class MeasureRow:
    """The mean of one reward for an arm on a level, over the questions to which it applies in all of the arm's runs."""

    measure: str
    arm: str
    level: str
    mean: Interval | None  # None if there is no question to which it applies in all runs


@dataclass(frozen=True)
class MeasureDifferenceRow:
    """The mean of one reward for an arm minus that for the control, on all levels together, with equal weights.

    It is over the questions to which the reward applies in all runs of both arms; a level without any is left out. Its
    plain 95 % interval is for new seeds and new videos, see `seed_model`.
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
    if not applies.any():
        return None
    values, videos = values[:, applies], _renumber(study.video_ids(level)[applies])
    return bootstrap_interval(values.mean(), bootstrap_means(values, videos), count_videos(values, videos))


def _difference(study: Study, arm: str, key: str) -> Interval | None:
    runs = {name: of for name in study.arms if (of := study.runs_on_all_levels(name))}
    if not {arm, study.control} <= runs.keys():
        return None
    scores: dict[str, dict[str, np.ndarray]] = {name: {} for name in runs}
    videos, ids = {}, study.video_ids_by_level()
    for level in study.levels:
        columns = {name: x for name, of in runs.items() if (x := _values(of, [level], key)) is not None}
        if not {arm, study.control} <= columns.keys():
            continue
        applies = np.isfinite(np.concatenate([columns[arm], columns[study.control]])).all(0)  # (Q,)
        if applies.any():
            videos[level] = ids[level][applies]
            for name, x in columns.items():
                scores[name][level] = x[:, applies]
    # other arms help to estimate the scatter of seeds, where they have a value for all of these questions
    known = {name: of for name, of in scores.items() if of.keys() == videos.keys() and _finite(of)}
    return _contrast(study, known, videos, arm) if videos else None


def _finite(levels: Mapping[str, np.ndarray]) -> bool:
    return all(np.isfinite(x).all() for x in levels.values())


def _contrast(
    study: Study, scores: Mapping[str, Mapping[str, np.ndarray]], videos: Mapping[str, np.ndarray], arm: str
) -> Interval:
    """An arm less the control by the model of seeds."""
    unseeded = [name for name in unseeded_arms(study) if name in scores]
    model = SeedModel.fit(scores, videos, unseeded, arms_with_the_same_runs(study, list(scores)))
    contrast = model.contrast(difference(arm, study.control))
    return Interval(contrast.difference, *contrast.interval(ALPHA))


def _renumber(videos: np.ndarray) -> np.ndarray:
    """Number the videos that are left from 0 without gaps."""
    return np.unique(videos, return_inverse=True)[1]
