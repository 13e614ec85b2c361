"""Compare the arms of a study: one model of seed scatter for all arms and levels, one family of comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlvid.study.contrasts import UNDECIDED, Family, Needed, Result, difference, needed
from rlvid.study.noise_response import NoiseResponse
from rlvid.study.seed_model import ALL_LEVELS, ALPHA, SeedModel
from rlvid.study.sequential import Look
from rlvid.study.stats import Interval, permutation_test
from rlvid.study.study import Study

NOTHING_NEEDED = Needed(0, 1.0)


@dataclass(frozen=True)
class Comparison:
    """What two arms show on all levels, on one level, or under one noise: one row of the tables of comparisons."""

    a: str
    b: str
    condition: str  # "all levels", a level, or a noise
    difference: Interval  # accuracy of `a` minus that of `b`; all intervals of the table hold together with 95 %
    alone: Interval | None  # the plain 95 % interval of this comparison alone; None for published counts
    p: float  # adjusted for all comparisons of the table; below .05 exactly where `difference` excludes 0
    p_these_runs: float | None  # exact test for these trained seeds only, not adjusted; None for published counts
    verdict: str  # see `contrasts.verdict`
    needed: Needed  # what the observed difference would take to be decided with 80 % power
    detectable: float | None = None  # the smallest true difference that is decided with 80 % power; a share


def contrast_name(a: str, b: str) -> str:
    """The name of the comparison of arm `a` with arm `b` in families and in adaptive.json."""
    return f"{a} | {b}"


def fit_seed_model(study: Study) -> SeedModel | None:
    """Fit the scatter of seeds to the study's endpoint; None if no run is finished.

    An arm enters with the runs that answered the levels of its most complete run, so that each row is one run.
    """
    scores: dict[str, dict[str, np.ndarray]] = {}
    for arm in study.arms:
        levels = _levels_with_the_same_runs(study, arm)
        columns = {level: study.column(arm, level, study.endpoint_column) for level in levels}
        if known := {level: column for level, column in columns.items() if column is not None}:
            scores[arm] = known
    if not scores:
        return None
    videos = {level: study.video_ids(level) for level in study.levels}
    return SeedModel.fit(scores, videos, unseeded=[arm for arm in study.unseeded if arm in scores])


def _levels_with_the_same_runs(study: Study, arm: str) -> list[str]:
    """The levels that one set of an arm's runs answered: the largest set, and all levels that it covers."""
    runs = {level: [run.seed for run in study.runs_on(arm, level)] for level in study.levels}
    largest = max(runs.values(), key=len, default=[])
    return [level for level, seeds in runs.items() if seeds and seeds == largest]


def compare_arms(study: Study, model: SeedModel | None) -> list[Comparison]:
    """The study's planned comparisons, as one family: each on all levels together, then on every level.

    Half of the error rate of 5 % is for the comparisons on all levels, the primary endpoint, and half for those on
    single levels.
    """
    if model is None:
        return []
    pairs = [(a, b) for a, b in study.comparisons if a in model.cells and b in model.cells]
    contrasts = {contrast_name(a, b): difference(a, b) for a, b in pairs}
    results = Family(model, contrasts, study.equivalence_margin).results()
    return [
        _comparison(study, model, *pair, result)
        for pair, name in zip(pairs, contrasts, strict=True)
        for result in results
        if result.name == name
    ]


def compare_under_noise(study: Study, model: SeedModel | None, responses: Sequence[NoiseResponse]) -> list[Comparison]:
    """Every method against the first one under the same noise, on all levels together, as one family."""
    if model is None or not responses:
        return []
    reference = {cell.noise: cell for cell in responses[0].cells}
    names: dict[str, tuple[str, str, str]] = {}  # contrast -> its two methods, and the noise
    arms: dict[str, tuple[str, str]] = {}  # contrast -> its two arms
    for response in responses[1:]:
        for cell in response.cells:
            other = reference.get(cell.noise)
            same_runs = other and cell.folders and cell.folders == other.folders  # one run under two names
            if not other or same_runs or not {cell.arm, other.arm} <= model.cells.keys():
                continue
            name = f"{cell.method} | {cell.noise}"
            names[name] = (cell.method, other.method, cell.noise)
            arms[name] = (cell.arm, other.arm)
    contrasts = {name: difference(*pair) for name, pair in arms.items()}
    rows = []
    for result in Family(model, contrasts, study.equivalence_margin, share=1.0).results() if contrasts else ():
        if result.level == ALL_LEVELS:
            a, b, noise = names[result.name]
            rows.append(replace(_comparison(study, model, *arms[result.name], result), a=a, b=b, condition=noise))
    return rows


def _comparison(study: Study, model: SeedModel, a: str, b: str, result: Result) -> Comparison:
    """One row of the table from a result of the family."""
    undecided = result.verdict == UNDECIDED
    look = _last_look(study, a, b) if result.level == ALL_LEVELS else None
    if look:
        result = _at_look(result, look)
    return Comparison(
        a=a,
        b=b,
        condition=result.level,
        difference=Interval(result.difference, *result.interval),
        alone=Interval(result.difference, *result.alone),
        p=result.p,
        p_these_runs=_exact_p(study, a, b, result.level),
        verdict=result.verdict,
        needed=needed(model, difference(a, b), result.difference, result.level, result.alpha)
        if undecided
        else NOTHING_NEEDED,
        detectable=result.contrast.detectable(result.alpha),
    )


def _last_look(study: Study, a: str, b: str) -> Look | None:
    """The last look of an adaptive grid at a comparison; None for a grid with fixed seeds."""
    comparison = study.adaptive.comparisons.get(contrast_name(a, b)) if study.adaptive else None
    return comparison.looks[-1] if comparison and comparison.looks else None


def _at_look(result: Result, look: Look) -> Result:
    """The result on all levels as an adaptive grid decided it: with the interval and the verdict of its last look."""
    low, high = (-1.0 if look.low is None else look.low), (1.0 if look.high is None else look.high)
    p = min(1.0, result.contrast.p_value() * ALPHA / look.level) if look.level else 1.0
    alpha = look.level or result.alpha
    return replace(result, difference=look.difference, interval=(low, high), p=p, verdict=look.verdict, alpha=alpha)


def _exact_p(study: Study, a: str, b: str, level: str) -> float | None:
    """The exact permutation test of two arms' right answers; None where their runs do not share the questions."""
    if level == ALL_LEVELS:
        scores = [list(study.scores_on_all_levels(arm).values()) for arm in (a, b)]
        if not all(scores):
            return None
        return permutation_test(np.stack(scores[0]), np.stack(scores[1]), study.video_ids())
    columns = [study.column(arm, level, "correct") for arm in (a, b)]
    if columns[0] is None or columns[1] is None:
        return None
    return permutation_test(columns[0], columns[1], study.video_ids(level))
