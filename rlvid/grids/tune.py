"""Choose settings of an experiment's arms on the level "dev", with as many trials for each: `rlvid tune EXPERIMENT`.

A trial is a run of one arm with one combination of the candidates in `Grid(tune=...)`, with a seed that no run of the
grid has. It is evaluated on "dev" and on nothing else, so that the levels of the grid play no part in the choice. The
choice of an arm is its trial with the highest accuracy; of equal ones the first.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from pathlib import Path
from typing import Any

from rich.table import Table

from rlvid.errors import NOT_FINITE, UserError
from rlvid.grids.cell import Arm, Cell, Settings, format_overrides, make_cell, override_keys
from rlvid.grids.earlier_runs import take_up_runs, unused_runs_note
from rlvid.grids.grid import TRAIN, Grid
from rlvid.grids.job import Command
from rlvid.grids.launch import launch
from rlvid.grids.launchers import LocalLauncher
from rlvid.grids.plan import write_grid_file
from rlvid.grids.tuned import Tuned
from rlvid.registry import suggest
from rlvid.study.runs import Run
from rlvid.study.stats import wilson_interval
from rlvid.utils.console import wide_console

LEVEL = "dev"
EVALUATION: Settings = {"eval.splits": [LEVEL], "eval.transfer": [], "eval.views": [], "eval.limit": 0}
MOST_SEEDS = 100  # seeds that an adaptive grid may come to use; the tuning seed is none of them


@dataclass(frozen=True)
class Trial:
    """One run of an arm with one combination of candidates."""

    arm: str
    settings: Settings  # the combination
    cell: Cell


@dataclass(frozen=True)
class Result:
    """A finished trial: right answers on the level, or why there are none."""

    trial: Trial
    correct: int
    questions: int
    date: str  # of its end, such as "2026-01-02"
    failure: str = ""

    @property
    def accuracy(self) -> float:
        """The share of right answers; -1 for a trial that failed, which is never chosen."""
        return -1.0 if self.failure else self.correct / self.questions

    def to_table(self) -> dict[str, Any]:
        """The trial as a TOML table."""
        if self.failure:
            return {"settings": dict(self.trial.settings), "failed": self.failure}
        interval = wilson_interval(self.correct, self.questions)
        ends = [round(interval.low, 4), round(interval.high, 4)]
        return {"settings": dict(self.trial.settings), "accuracy": round(self.accuracy, 4), "interval": ends}


def tune(
    grid: Grid,
    script: Path,
    preset: str = "",
    jobs: int | None = None,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    command: Command = TRAIN,
) -> int:
    """Run the trials that are not done yet, choose, and print what was tried.

    The result is written to the file that `Grid(tuned=...)` names, else to tuned/NAME-PRESET.toml beside the script.

    Args:
        grid: the experiment.
        script: its file.
        preset: what the trials start from; default: that of the grid.
        jobs: trials at a time; default: one per GPU, or 1.
        out: the folder of the trials; default: runs/tune-NAME-PRESET.
        overrides: for all trials; what an arm sets and the candidates take precedence.
        command: what Python runs for each trial.

    Returns:
        The exit code: 0, or 1 if a trial did not come to an end; then nothing is chosen. The same command continues.

    Raises:
        UserError: the grid names no candidates, or wrong ones; or an override names what tuning sets itself.
    """
    for override in overrides:
        for key in EVALUATION.keys() & override_keys([override]):
            raise UserError(f"--set {override} has no effect: trials answer all questions of {LEVEL}; leave {key} out")
    preset = preset or grid.preset
    stem = Path(preset).stem
    out = out or Path("runs") / f"tune-{grid.name}-{stem}"
    plan, trials = plan_trials(grid, preset, overrides)
    cells = take_up_runs([trial.cell for trial in trials], out)
    trials = [replace(trial, cell=cell) for trial, cell in zip(trials, cells, strict=True)]
    launcher = LocalLauncher(jobs)
    if note := unused_runs_note(cells, out):
        print(note, file=sys.stderr)
    write_grid_file(plan, out, cells, "")
    launch(cells, out, launcher, command)
    results = [result for trial in trials if (result := read_result(trial, out))]
    if len(results) < len(trials):
        return 1
    how = {
        "experiment": grid.name,
        "preset": preset,
        "level": LEVEL,
        "questions": max(result.questions for result in results),
        "seed": grid.tune_seed,
        "trials": len(trials) // len({trial.arm for trial in trials}),
        "date": max(result.date for result in results),
        "command": _command_line(script, preset if preset != grid.preset else "", overrides),
    }
    path = grid.tuned_path(preset) or script.parent / "tuned" / f"{grid.name}-{stem}.toml"
    tuned = Tuned(path, how | {"arms": choose(results, grid.tune_as)})
    tuned.write()
    wide_console().print("", results_table(results, tuned), f"\nwritten: {path}", highlight=False, markup=False)
    return 0


def _command_line(script: Path, preset: str, overrides: Sequence[str]) -> str:
    """The command that makes the same choice."""
    options = [["--preset", preset]] if preset else []
    options += [["--set", override] for override in overrides]
    return shlex.join(["rlvid", "tune", str(script), *chain(*options)])


def plan_trials(grid: Grid, preset: str, overrides: Sequence[str] = ()) -> tuple[Grid, list[Trial]]:
    """Return the trials, and a grid with one arm for each of them.

    Raises:
        UserError: see `tune`.
    """
    arms = grid.all_arms(preset)
    _check(grid, arms)
    trials = []
    folders: dict[str, str] = {}  # id of a config -> the folder of its first trial: equal configs are one run
    for arm in arms.values():
        trains = make_cell(arm, grid.tune_seed, preset, overrides, grid.settings).steps > 0
        if not trains or arm.name in grid.tune_as:
            continue
        for settings in combinations(grid.tune_arms.get(arm.name, grid.tune)):
            if own := settings.keys() & arm.settings.keys():
                raise UserError(f"grid {grid.name!r}: arm {arm.name!r} sets {min(own)} itself, so it cannot be tuned")
            name = f"{arm.name}: {' '.join(format_overrides(settings))}"
            trial_arm = Arm(name, {}, {**arm.settings, **settings, **EVALUATION})
            cell = make_cell(trial_arm, grid.tune_seed, preset, overrides, grid.settings)
            cell = replace(cell, folder=folders.setdefault(cell.id, cell.folder))
            trials.append(Trial(arm.name, settings, cell))
    counts = {arm: sum(trial.arm == arm for trial in trials) for arm in dict.fromkeys(trial.arm for trial in trials)}
    if not trials:
        raise UserError(f"grid {grid.name!r}: no arm trains, so there is nothing to tune")
    if len(set(counts.values())) > 1:
        raise UserError(f"grid {grid.name!r}: every arm needs as many trials, but there are {counts}: see tune_arms=")
    plan = Grid(
        name=f"tune-{grid.name}",
        question=f"Which settings of {grid.name}'s arms are best on {LEVEL}?",
        seeds=(grid.tune_seed,),
        control=trials[0].cell.arm,
        arms={trial.cell.arm: {} for trial in trials},
        preset=preset,
    )
    return plan, trials


def combinations(candidates: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return all combinations of candidates, the last key's changing fastest.

    >>> combinations({"train.learning_rate": (1e-4, 3e-4), "train.max_steps": (60,)})
    [{'train.learning_rate': 0.0001, 'train.max_steps': 60}, {'train.learning_rate': 0.0003, 'train.max_steps': 60}]
    """
    return [dict(zip(candidates, values, strict=True)) for values in product(*candidates.values())]


def _check(grid: Grid, arms: Mapping[str, Arm]) -> None:
    """Raise UserError if there are no candidates, they set the evaluation or the seed, or a name is no arm's."""
    if not grid.tune:
        raise UserError(
            f'grid {grid.name!r} names no settings to try: Grid(tune={{"train.learning_rate": (3e-5, 1e-4, 3e-4)}})'
        )
    for key in {key for candidates in (grid.tune, *grid.tune_arms.values()) for key in candidates}:
        if key in ("seed", "eval") or key.startswith(("eval.", "data")):
            raise UserError(f"grid {grid.name!r}: {key} cannot be tuned: all trials have the same questions and seed")
    for name in (*grid.tune_arms, *grid.tune_as, *grid.tune_as.values()):
        if name not in arms:
            raise UserError(f"grid {grid.name!r} has no arm {name!r}.{suggest(name, arms)}")
    if chained := [name for name, other in grid.tune_as.items() if other in grid.tune_as]:
        raise UserError(f"grid {grid.name!r}: tune_as of {chained[0]!r} names an arm that has no trials of its own")
    if grid.tune_seed in grid.seed_numbers(MOST_SEEDS):
        raise UserError(
            f"grid {grid.name!r}: tune_seed {grid.tune_seed} is, or may become, a seed of the grid: choose another one"
        )


def read_result(trial: Trial, out: Path) -> Result | None:
    """Read a trial's answers; None if it did not come to an end.

    A run that ended on a loss that is not finite counts as a trial without accuracy. Other failures, such as a full
    disk, say nothing of its settings: the same command repeats the run.

    Raises:
        UserError: a finished trial has no answers any more.
    """
    run = Run(trial.arm, trial.cell.seed, out / trial.cell.folder, trial.cell.id)
    date = run.status.get("updated", "")[:10]
    if run.done:
        answers = run.answers.get(LEVEL, {}).values()
        if not answers:
            raise UserError(
                f"{run.folder}: eval/{LEVEL}.jsonl has no answers: remove the folder and run rlvid tune again"
            )
        return Result(trial, sum(row["correct"] for row in answers), len(answers), date)
    reason = run.status.get("message", "").partition("\n")[0]
    if run.status.get("state") == "failed" and NOT_FINITE in reason:
        return Result(trial, 0, 0, date, reason)
    return None


def choose(results: Sequence[Result], same_as: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return arm -> its table in the file: the chosen settings, and what was tried or whose choice it takes.

    Raises:
        UserError: all trials of an arm failed.
    """
    tables: dict[str, dict[str, Any]] = {}
    for arm in dict.fromkeys(result.trial.arm for result in results):
        tried = [result for result in results if result.trial.arm == arm]
        best = max(tried, key=lambda result: result.accuracy)  # of equal ones the first
        if best.failure:
            raise UserError(f"arm {arm!r}: all trials failed, such as {best.trial.cell.folder}: {best.failure}")
        tables[arm] = {"settings": dict(best.trial.settings), "tried": [result.to_table() for result in tried]}
    for arm, other in same_as.items():
        tables[arm] = {"settings": tables[other]["settings"], "same_as": other}
    return tables


def results_table(results: Sequence[Result], tuned: Tuned) -> Table:
    """Return a table of what was tried, with the choice of each arm marked."""
    table = Table("arm", "tried", box=None, padding=(0, 2, 0, 0))
    for name in (f"{LEVEL} accuracy", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for result in results:
        row, arm = result.to_table(), result.trial.arm
        accuracy, interval = "–", "failed"
        if not result.failure:
            low, high = row["interval"]
            accuracy, interval = f"{result.accuracy:.1%}", f"{low:.1%} to {high:.1%}"
        chosen = _mark(result, results) if row["settings"] == tuned.settings(arm) else ""
        table.add_row(arm, " ".join(format_overrides(row["settings"])), accuracy, interval, chosen)
    for name, arm_table in tuned.arms.items():
        if "same_as" in arm_table:
            table.add_row(name, " ".join(format_overrides(arm_table["settings"])), "", "", f"as {arm_table['same_as']}")
    return table


def _mark(chosen: Result, results: Sequence[Result]) -> str:
    """Return "chosen", and for a number at the end of three or more candidates that wider ones may be better."""
    tried = [result.trial.settings for result in results if result.trial.arm == chosen.trial.arm]
    ends = []
    for key, value in chosen.trial.settings.items():
        values = {settings[key] for settings in tried if isinstance(settings[key], int | float)}
        if len(values) >= 3 and value in (min(values), max(values)):
            ends.append(f"{'largest' if value == max(values) else 'smallest'} {key} tried")
    return ", ".join(["chosen", *ends])
