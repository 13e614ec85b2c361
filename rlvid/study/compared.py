"""Which runs of an arm are compared, on which levels, and what of their answers is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from rlvid.errors import UserError
from rlvid.study.runs import Row, Run

if TYPE_CHECKING:
    from rlvid.study.study import Study


@dataclass(frozen=True)
class Compared:
    """What of an arm enters the comparisons: the same runs on every level, so that each row of scores is one run."""

    runs: Sequence[Run]  # by seed; with those of arms that share runs with it
    levels: Sequence[str]  # each of these runs answered them

    @cached_property
    def alike(self) -> bool:
        """Whether several runs took no step and gave the same answers: no seed is at work.

        Trained runs may agree by chance, as where both collapsed, and other seeds need not agree with them.
        """
        if len(self.runs) < 2 or not all(run.took_no_step for run in self.runs):
            return False
        first, *others = self.runs
        return all(_replies(run, level) == _replies(first, level) for run in others for level in self.levels)


def compared_runs(study: Study) -> dict[str, Compared]:
    """Return arm -> its runs that are compared.

    Those that answered all levels, if there are any; else those that answered most levels' questions, and the levels
    that all of these answered. Arms that share runs, because their configs are equal, have all runs of both.
    """
    levels = endpoint_levels(study)
    of_arm: dict[str, Compared] = {}
    for arms in _arms_that_share_runs(study):
        runs = {run.folder: run for arm in arms for run in study.arms[arm]}
        chosen = _choose(study, sorted(runs.values(), key=lambda run: run.seed), levels)
        of_arm |= dict.fromkeys(arms, chosen)
    return {arm: of_arm[arm] for arm in study.arms}


def endpoint_levels(study: Study) -> list[str]:
    """Return the levels with questions to which the endpoint applies."""
    return [level for level in study.levels if study.applies[level].any()]


def arms_with_the_same_runs(study: Study, arms: Sequence[str]) -> dict[str, str]:
    """Return arm -> the first of `arms` with the same runs, if that is another one: equal configs are one run.

    An arm that has fewer of their seeds than the other one counts, too.
    """
    groups = [[arm for arm in group if arm in arms] for group in _arms_that_share_runs(study)]
    return {arm: first for first, *others in filter(None, groups) for arm in others}


def unseeded_arms(study: Study) -> list[str]:
    """Return the arms without a random seed: those named, and untrained ones whose runs gave the same answers."""
    return [arm for arm, chosen in study.compared.items() if arm in study.unseeded or chosen.alike]


def endpoint_scores(study: Study, arm: str) -> dict[str, np.ndarray]:
    """Return level -> (S, Q') values of the endpoint, on the Q' questions to which it applies.

    A value that this run lacks and another one has counts as 0, so that an arm cannot gain by having none.
    Untrained runs that gave the same answers are one row.

    Raises:
        UserError: a value is not finite.
    """
    chosen = study.compared[arm]
    runs = chosen.runs[:1] if chosen.alike else chosen.runs
    return {level: np.array([_values(study, run, level) for run in runs]) for level in chosen.levels}


def run_problems(study: Study, run: Run) -> list[str]:
    """Return why a run, or some of its answers, does not count; [] if everything counts."""
    if not run.done:
        return [run.progress]
    problems = []
    for level, questions in study.levels.items():
        answers = run.answers.get(level, {})
        if list(answers) != questions:
            shared = len(answers.keys() & set(questions))
            problems.append(f"{level} left out: {shared} of the {len(questions)} questions of other runs answered")
        else:
            problems += _answer_problems(study, run, level)
        if repeated := run.repeated_answers.get(level):
            problems.append(f"{level}: {repeated} lines answer a question again; the last line of each counts")
    compared = [each.folder for each in study.compared[run.arm].runs]  # of another arm's name, if it shares the run
    if run.folder not in compared and any(_is_measured(study, run, level) for level in study.levels):
        problems.append("not compared: other runs of the arm answered all levels, or more of them")
    return problems


def arm_problems(study: Study, arm: str) -> Iterator[str]:
    """Yield what is not in an arm's comparisons as it is in those of other arms."""
    chosen = study.compared[arm]
    for level in endpoint_levels(study) if chosen.runs else ():
        if level not in chosen.levels:
            yield f"{level} is in none of its comparisons: no run of the arm answered all levels"
    if chosen.alike and arm not in study.unseeded:
        yield "its runs took no step and gave the same answers: counted as one run that depends on no seed"


def _answer_problems(study: Study, run: Run, level: str) -> Iterator[str]:
    """Yield what counts as wrong, or as 0, in a run's answers to all questions of a level."""
    rows = list(run.answers[level].values())
    if unread := sum("unread" in row for row in rows):
        yield f"{level}: {unread} clips could not be read and count as wrong; see skipped.jsonl"
    if excluded := sum("excluded" in row and "unread" not in row for row in rows):
        yield f"{level}: {excluded} questions outside of the protocol's denominator count as wrong here"
    applies, key = study.applies[level], study.endpoint_column
    if not applies.any():
        return
    if not _is_measured(study, run, level):
        yield f"{level} is not compared: {study.endpoint} was not measured; name it in eval.rewards"
        return
    missing = sum(row.get(key) is None and "unread" not in row for row, ok in zip(rows, applies, strict=True) if ok)
    if missing:
        yield f"{level}: {missing} of {applies.sum()} values of {study.endpoint} missing, counted as 0"


def _arms_that_share_runs(study: Study) -> list[list[str]]:
    """Return the arms in groups: those that share the folder of a run are one group."""
    groups: list[tuple[list[str], set[str]]] = []
    for arm in study.arms:
        folders = {str(run.folder) for run in study.runs if run.arm == arm}
        shared = next((group for group in groups if group[1] & folders), None)
        if shared:
            shared[0].append(arm)
            shared[1].update(folders)
        else:
            groups.append(([arm], folders))
    return [arms for arms, _ in groups]


def _choose(study: Study, runs: Sequence[Run], levels: Sequence[str]) -> Compared:
    answered = {level: [run for run in runs if _is_measured(study, run, level)] for level in levels}
    complete = [run for run in runs if levels and all(run in answered[level] for level in levels)]
    if complete:
        return Compared(complete, levels)
    largest = max(answered.values(), key=len, default=[])
    return Compared(largest, [level for level in levels if largest and answered[level] == largest])


def _is_measured(study: Study, run: Run, level: str) -> bool:
    """Return whether a run answered all questions of a level, and its answers have the endpoint's column."""
    answers = run.answers.get(level, {})
    readable = [row for row in answers.values() if "unread" not in row]
    return list(answers) == study.levels[level] and (not readable or any(study.endpoint_column in r for r in readable))


def _values(study: Study, run: Run, level: str) -> np.ndarray:
    key, rows = study.endpoint_column, run.answers[level]
    values = {question: float(row.get(key) or 0) for question, row in rows.items()}
    if bad := next((question for question, value in values.items() if not isfinite(value)), None):
        raise UserError(
            f"{run.folder / 'eval' / level}.jsonl: question {bad} has {key} {values[bad]}: a reward must be a finite "
            "number, or null where it does not apply; mend the reward and evaluate the run again"
        )
    return np.array(list(values.values()))[study.applies[level]]


def _replies(run: Run, level: str) -> list[Row]:
    """Return the answers without their evidence, which may hold more than the reply."""
    return [{key: row[key] for key in row if key != "evidence"} for row in run.answers[level].values()]
