"""Compare the arms of a study: one model of seed scatter for all arms and levels, one family of comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf, lcm, nan

import numpy as np

from rlvid.errors import UserError
from rlvid.study.compared import arms_with_the_same_runs, endpoint_scores, unseeded_arms
from rlvid.study.contrasts import (
    COST_WORDS,
    NO_LOOK,
    ONE_SEED,
    UNDECIDED,
    Family,
    Needed,
    Result,
    difference,
    interaction,
    needed,
)
from rlvid.study.power import ALPHA
from rlvid.study.seed_model import ALL_LEVELS, SeedModel
from rlvid.study.sequential import Look
from rlvid.study.stats import Interval, permutation_test
from rlvid.study.study import Study

NOTHING_NEEDED = Needed(0, 1.0)
NOT_KNOWN = Needed(nan, nan)  # with one seed, and where an adaptive grid gave up
MOST_SUMS = 100_000  # of the exact test: with more it takes seconds


@dataclass(frozen=True)
class Comparison:
    """What two arms or methods show on all levels, on one level, or under one noise: one row of several tables."""

    a: str
    b: str
    condition: str  # "all levels", "all levels without L1" where not all answered L1, a level, or a noise
    difference: Interval  # accuracy of `a` minus that of `b`; all intervals of the table hold together with 95 %
    alone: Interval | None  # the plain 95 % interval of this comparison alone; None: published counts, or at a look
    p: float | None  # adjusted for the table: below .05 exactly where `difference` excludes 0. None: a look has none
    p_these_runs: float | None  # exact test for these trained seeds only, not adjusted; None if there is none
    verdict: str  # see `contrasts.verdict`
    needed: Needed  # what the observed difference would take to be decided with 80 % power; nan where it is not known
    detectable: float | None = None  # the smallest true difference that is decided with 80 % power; a share
    look: int | None = None  # seeds at the look of an adaptive grid that decided it; None: it is of all runs


@dataclass(frozen=True, kw_only=True)
class Interaction(Comparison):
    """How much more a change costs arm `a` than arm `b`, on all levels: one row of the table of interactions.

    `difference` is (a - a_changed) - (b - b_changed). `verdict` is "costs more", "costs less", or as of a comparison.
    """

    a_changed: str
    b_changed: str


def contrast_name(a: str, b: str) -> str:
    """The name of the comparison of arm `a` with arm `b` in families and in adaptive.json."""
    return f"{a} | {b}"


def interaction_name(a: str, a_changed: str, b: str, b_changed: str) -> str:
    """The name of an interaction in families and in adaptive.json."""
    return contrast_name(f"{a} to {a_changed}", f"{b} to {b_changed}")


def planned_contrasts(
    comparisons: Iterable[tuple[str, str]], interactions: Iterable[tuple[str, str, str, str]] = ()
) -> dict[str, dict[str, float]]:
    """Name -> weights of comparisons, then of interactions.

    Raises:
        UserError: two of them have one name, such as "a | b" against "c" and "a" against "b | c": in a family and in
            adaptive.json one would stand for the other.
    """
    named = [(contrast_name(*pair), tuple(pair)) for pair in comparisons]
    named += [(interaction_name(*arms), tuple(arms)) for arms in interactions]
    of_name: dict[str, tuple[str, ...]] = {}
    for name, arms in named:
        if (other := of_name.setdefault(name, arms)) != arms:
            raise UserError(
                f"{other} and {arms} would both be called {name!r}: rename an arm that has ' | ' or ' to ' in its name"
            )
    return {name: difference(*arms) if len(arms) == 2 else interaction(*arms) for name, arms in of_name.items()}


def fit_seed_model(study: Study) -> SeedModel | None:
    """Fit the scatter of seeds to the study's endpoint; None if no run is finished.

    An arm enters with the runs of `Study.compared`, so that each row is one run. Questions for which no run of the
    study has a value of the endpoint are left out.
    """
    scores = {arm: levels for arm in study.arms if (levels := endpoint_scores(study, arm))}
    if not scores:
        return None
    unseeded = [arm for arm in unseeded_arms(study) if arm in scores]
    videos = {level: ids[study.applies[level]] for level, ids in study.video_ids_by_level().items()}
    return SeedModel.fit(scores, videos, unseeded, arms_with_the_same_runs(study, list(scores)))


def _condition(study: Study, model: SeedModel, result: Result) -> str:
    """The level of a result; "all levels without L1" where arms have not all answered L1."""
    shared = model.shared_levels(result.contrast.weights)
    missing = [level for level in study.levels if level not in shared]
    if result.level != ALL_LEVELS or not missing:
        return result.level
    return f"{ALL_LEVELS} without {', '.join(missing)}"


def compare_arms(study: Study, model: SeedModel | None) -> list[Comparison]:
    """The study's planned comparisons: each on all levels together, then on every level.

    They and the planned interactions are one family. Half of its error rate of 5 % is for all levels, the primary
    endpoint, and half for single levels.
    """
    if model is None:
        return []
    results = _family(study, model).results()
    rows = [
        comparison_row(
            model,
            _as_decided(study, result),
            a,
            b,
            _condition(study, model, result),
            exact_p(study, a, b, result.level),
        )
        for a, b in study.comparisons
        for result in results
        if result.name == contrast_name(a, b)
    ]
    return [within_reach(study, row, 1.0) for row in rows]


def compare_interactions(study: Study, model: SeedModel | None) -> list[Interaction]:
    """The study's planned interactions, on all levels together: members of the same family as its comparisons."""
    if model is None or not study.interactions:
        return []
    results = {result.name: result for result in _family(study, model).results()}
    rows = []
    for a, a_changed, b, b_changed in study.interactions:
        if result := results.get(interaction_name(a, a_changed, b, b_changed)):
            condition = _condition(study, model, result)
            row = within_reach(study, cost_row(model, _as_decided(study, result), a, b, condition), 2.0)
            rows.append(Interaction(**vars(row), a_changed=a_changed, b_changed=b_changed))
    return rows


def within_reach(study: Study, row: Comparison, reach: float) -> Comparison:
    """The row with its intervals cut at what accuracies can reach, -reach .. reach; other endpoints have no limits.

    No verdict changes: 0 and the margin are inside.
    """
    if study.endpoint != "accuracy":
        return row
    alone = row.alone.within(-reach, reach) if row.alone else None
    return replace(row, difference=row.difference.within(-reach, reach), alone=alone)


def _family(study: Study, model: SeedModel) -> Family:
    """All planned contrasts whose arms have finished runs."""
    planned = planned_contrasts(study.comparisons, study.interactions)
    contrasts = {name: weights for name, weights in planned.items() if weights.keys() <= model.cells.keys()}
    interactions = {interaction_name(*arms) for arms in study.interactions}
    return Family(model, contrasts, study.equivalence_margin, on_all_levels_only=interactions)


def comparison_row(
    model: SeedModel, result: Result, a: str, b: str, condition: str = "", p_these_runs: float | None = None
) -> Comparison:
    """The row for a result of a family; `condition` instead of its level."""
    takes = (
        NOT_KNOWN if result.verdict in (ONE_SEED, NO_LOOK) or result.verdict.startswith(UNDECIDED) else NOTHING_NEEDED
    )
    if result.verdict == UNDECIDED:
        takes = needed(model, result.contrast.weights, result.difference, result.level, result.alpha)
    return Comparison(
        a=a,
        b=b,
        condition=condition or result.level,
        difference=Interval(result.difference, *result.interval),
        alone=Interval(result.difference, *result.alone) if result.alone else None,
        p=result.p,
        p_these_runs=p_these_runs,
        verdict=result.verdict,
        needed=takes,
        detectable=result.contrast.detectable(result.alpha),
        look=result.look,
    )


def cost_row(model: SeedModel, result: Result, a: str, b: str, condition: str = "") -> Comparison:
    """The row for a result whose positive sign means that something costs `a` more than `b`."""
    row = comparison_row(model, result, a, b, condition)
    return replace(row, verdict=COST_WORDS.get(row.verdict, row.verdict))


def _as_decided(study: Study, result: Result) -> Result:
    """The result; on all levels of an adaptive grid, as the last look at it decided it."""
    comparison = study.adaptive.comparisons.get(result.name) if study.adaptive else None
    if comparison is None or result.level != ALL_LEVELS:
        return result
    if not comparison.looks:
        return replace(result, interval=(-inf, inf), alone=None, p=None, verdict=NO_LOOK)
    return _at_look(result, comparison.looks[-1])


def _at_look(result: Result, look: Look) -> Result:
    """The result on all levels as an adaptive grid decided it: all its numbers are of the runs at its last look.

    A file that was saved before looks had a p has none to show. The plain interval is left out: it would be of one look
    as if there had been no others.
    """
    low, high = (-inf if look.low is None else look.low), (inf if look.high is None else look.high)
    p = 1.0 if not look.level else None if look.p is None else min(1.0, look.p * ALPHA / look.level)
    interval, alpha = (low, high), look.level or result.alpha
    decided = replace(result, difference=look.difference, interval=interval, alone=None, p=p, look=look.seeds)
    return replace(decided, verdict=look.verdict, alpha=alpha)


def exact_p(study: Study, a: str, b: str, level: str) -> float | None:
    """The exact permutation test of two arms' right answers on the questions of a level; each level counts alike.

    None where their runs do not share the questions, and where another endpoint than accuracy is compared.
    """
    shared = [name for name in study.compared[a].levels if name in study.compared[b].levels]
    levels = shared if level == ALL_LEVELS else [name for name in shared if name == level]
    if study.endpoint != "accuracy" or not levels:
        return None
    scores = [np.concatenate([_scores(study, arm, name) for name in levels], axis=1) for arm in (a, b)]
    sizes = [len(study.levels[name]) for name in levels]
    weights = np.repeat(weights_of_levels(sizes, MOST_SUMS // (len(scores[0]) * len(scores[1]))), sizes)
    return permutation_test(scores[0], scores[1], study.video_ids(*levels), weights)


def weights_of_levels(sizes: Sequence[int], most: int) -> list[int]:
    """Return the weight of a question on each level, a whole number, so that levels of these sizes weigh alike.

    Exact if the weights of all questions add up to at most `most`; else rounded, so that they add up to about that.
    With levels of 1,000 to 3,000 questions and one seed, levels' weights then differ by some percent.

    >>> weights_of_levels([400, 200], 1000)
    [1, 2]
    """
    common = min(lcm(*sizes), most // len(sizes))  # weight of a level
    return [max(1, round(common / size)) for size in sizes]


def _scores(study: Study, arm: str, level: str) -> np.ndarray:
    """(S, Q) right answers of the runs of an arm that are compared."""
    return np.array(
        [[float(row["correct"]) for row in run.answers[level].values()] for run in study.compared[arm].runs]
    )
