"""The tables of a report as rows of numbers, computed from a study.

Each dataclass is a row of one table; `to_record` makes it a flat dict for JSON and CSV. Accuracies are shares in
[0, 1]. `Comparison`, `Interaction`, `DesignRow`, `MeasureRow`, `MeasureDifferenceRow` and those of `noise_rows` are
rows too.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from io import StringIO
from itertools import groupby
from math import inf, isfinite
from typing import Any

import numpy as np

from rlvid.study.compared import arm_problems, run_problems
from rlvid.study.comparison import Comparison, interaction_name
from rlvid.study.contrasts import COST_WORDS
from rlvid.study.seed_model import SeedModel
from rlvid.study.stats import Interval, accuracy_interval, design_effect
from rlvid.study.study import Study


@dataclass(frozen=True)
class ArmRow:
    """An arm: its seeds, and what its replies are like."""

    arm: str
    seeds: int | None  # finished runs; None for published counts
    planned_seeds: int | None
    format: float | None = None  # share of replies in the right format, mean over levels
    length: float | None = None  # tokens of a reply, mean over levels
    seed_sd: float | None = None  # SD of accuracy over training seeds on a typical level; a share. None: no seeds


@dataclass(frozen=True)
class LevelRow:
    """A level: its questions, and what they can show."""

    level: str
    questions: int
    constant_accuracy: float | None = None  # of always answering the most frequent right letter
    videos: int | None = None
    design_effect: float | None = None  # mean over arms, see `stats.design_effect`
    detectable: float | None = None  # smallest true difference that is decided with 80 % power, given seeds and family


@dataclass(frozen=True)
class AccuracyRow:
    """The accuracy of an arm on a level: mean over its seeds."""

    arm: str
    level: str
    accuracy: Interval | None  # None if no run answered the level's questions


@dataclass(frozen=True)
class DomainRow:
    """The accuracy of an arm in one domain of a level."""

    arm: str
    level: str
    domain: str
    questions: int
    accuracy: Interval | None


@dataclass(frozen=True)
class LookRow:
    """One look of an adaptive grid at one comparison, on all levels."""

    comparison: str
    seeds: int  # of every open arm
    information: float  # share of what the most seeds would give
    difference: Interval  # with the repeated interval, which holds at all looks together
    verdict: str


@dataclass(frozen=True)
class MissingRow:
    """Why some runs, or some of their answers, are not in the other tables."""

    arm: str  # or the endpoint, or the folder of a run that is no arm
    seeds: tuple[int, ...]
    reason: str


def arm_rows(study: Study, model: SeedModel | None = None) -> list[ArmRow]:
    """Return a row for each arm; `model` estimates the scatter of its seeds."""
    rows = []
    for arm, runs in study.arms.items():
        planned = sum(run.arm == arm for run in study.runs)
        form, length = _mean_over_levels(study, arm, "rewards/format"), _mean_over_levels(study, arm, "length")
        has_seeds = model and arm in model.cells and arm not in model.unseeded and not model.one_seed
        seed_sd = model.seed_sd(arm) if model and has_seeds else None
        rows.append(ArmRow(arm, len(runs), planned, form, length, seed_sd))
    return rows


def level_rows(study: Study, comparisons: Sequence[Comparison]) -> list[LevelRow]:
    """Return a row for each level. What is detectable is the mean over the comparisons on it."""
    rows = []
    for level, questions in study.levels.items():
        videos = study.video_ids(level)
        scores = [study.column(arm, level, "correct") for arm in study.arms]
        effects = [design_effect(arm_scores, videos) for arm_scores in scores if arm_scores is not None]
        sizes = [row.detectable for row in comparisons if row.condition == level and row.detectable is not None]
        detectable = float(np.mean(sizes)) if sizes else None
        constant_accuracy = study.constant_accuracy(level)
        effect = float(np.mean(effects))
        rows.append(LevelRow(level, len(questions), constant_accuracy, len(set(videos)), effect, detectable))
    return rows


def accuracy_rows(study: Study) -> list[AccuracyRow]:
    """Return a row for each level and each arm that has finished runs."""
    rows = []
    for arm in finished_arms(study):
        for level in study.levels:
            scores, videos = study.column(arm, level, "correct"), study.video_ids(level)
            rows.append(AccuracyRow(arm, level, None if scores is None else accuracy_interval(scores, videos)))
    return rows


def domain_rows(study: Study) -> list[DomainRow]:
    """Return a row for each domain and arm, of the levels that have several domains."""
    rows = []
    for level in study.levels:
        domains, videos = study.domains(level), study.video_ids(level)
        if len(domains) < 2:
            continue
        for domain, questions in domains.items():
            video_ids = np.unique(videos[questions], return_inverse=True)[1]  # numbered from 0 without gaps
            for arm in finished_arms(study):
                scores = study.column(arm, level, "correct")
                accuracy = None if scores is None else accuracy_interval(scores[:, questions], video_ids)
                rows.append(DomainRow(arm, level, domain, len(questions), accuracy))
    return rows


def look_rows(study: Study) -> list[LookRow]:
    """Return a row for each look of an adaptive grid at each comparison; [] for a grid with fixed seeds."""
    rows = []
    interactions = {interaction_name(*arms) for arms in study.interactions}
    for name, comparison in study.adaptive.comparisons.items() if study.adaptive else ():
        reach = inf if study.endpoint != "accuracy" else 2.0 if name in interactions else 1.0
        for look in comparison.looks:
            verdict = COST_WORDS.get(look.verdict, look.verdict) if name in interactions else look.verdict
            interval = Interval(look.difference, -inf, inf)
            if look.low is not None and look.high is not None:
                interval = Interval(look.difference, look.low, look.high)
                interval = interval.within(-reach, reach)
            rows.append(LookRow(name, look.seeds, look.t, interval, verdict))
    return rows


def most_runs(study: Study) -> int | None:
    """Return the runs of an adaptive grid if every arm got the most seeds; None for a grid with fixed seeds."""
    if study.adaptive is None:
        return None
    return sum(1 if arm in study.unseeded else study.adaptive.max_seeds for arm in study.arms)


def missing_rows(study: Study) -> list[MissingRow]:
    """Return a row for each arm and each reason why runs or answers do not count, and those of the endpoint."""
    rows = []
    for arm, runs in groupby(study.runs, key=lambda run: run.arm):
        seeds: dict[str, list[int]] = {}
        for run in runs:
            for problem in run_problems(study, run):
                seeds.setdefault(problem, []).append(run.seed)
        rows += [MissingRow(arm, tuple(numbers), problem) for problem, numbers in seeds.items()]
        rows += [MissingRow(arm, (), problem) for problem in arm_problems(study, arm)]
    left_out = {level: int((~applies).sum()) for level, applies in study.applies.items()}
    rows += [
        MissingRow(study.endpoint, (), f"{count} questions of {level} left out: no run has a value")
        for level, count in left_out.items()
        if count
    ]
    return [*rows, *(MissingRow(folder, (), why) for folder, why in study.set_aside)]


def finished_arms(study: Study) -> list[str]:
    """Return the arms that have finished runs."""
    return [arm for arm, runs in study.arms.items() if runs]


def to_csv(sections: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the records of all sections as one CSV table: the column "section", then the columns of all of them.

    A column that a section does not have is empty, and so is a number that is not known or infinite.
    """
    records = [{"section": section, **row} for section, rows in sections.items() for row in rows]
    columns = list(dict.fromkeys(column for record in records for column in record))
    file = StringIO()
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({key: "; ".join(map(str, v)) if isinstance(v, list) else v for key, v in record.items()})
    return file.getvalue()


def to_record(row: Any) -> dict[str, Any]:
    """Return a row as a flat dict that JSON can hold.

    An interval becomes NAME, NAME_low and NAME_high; any other dataclass or mapping becomes NAME_KEY for each key. A
    number that is nan or infinite becomes None.

    >>> to_record(AccuracyRow("sft", "L1", Interval(0.5, 0.4, float("inf"))))
    {'arm': 'sft', 'level': 'L1', 'accuracy': 0.5, 'accuracy_low': 0.4, 'accuracy_high': None}
    """
    record: dict[str, Any] = {}
    for field in fields(row):
        value = getattr(row, field.name)
        if isinstance(value, Interval):
            record[field.name] = _plain(value.value)
            record |= {f"{field.name}_low": _plain(value.low), f"{field.name}_high": _plain(value.high)}
        elif is_dataclass(value) or isinstance(value, Mapping):
            items = value.items() if isinstance(value, Mapping) else vars(value).items()
            record |= {f"{field.name}_{key}": _plain(item) for key, item in items}
        else:
            record[field.name] = _plain(value)
    return record


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, float):
        return float(value) if isfinite(value) else None
    return value


def _mean_over_levels(study: Study, arm: str, key: str) -> float | None:
    """Return the mean over levels of a column's means; None if no answer has it."""
    columns = [study.column(arm, level, key) for level in study.levels]
    means = [column.mean() for column in columns if column is not None]
    return float(sum(means) / len(means)) if means else None
