"""A study of checkpoints that another tool evaluated: its logs, paired by question.

A folder holds one folder for each checkpoint, as lmms-eval's `--output_path` and VLMEvalKit's `--work-dir` write them.
A task is a level. One evaluation of each checkpoint is one seed, so verdicts are on these checkpoints only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rlvid.errors import UserError
from rlvid.study.log_formats import log_files, read_log
from rlvid.study.runs import Row, Run
from rlvid.study.study import Study

LOGGED = "logged"  # stands for the id of a config
Answers = dict[str, dict[str, Row]]  # task -> question id -> row


@dataclass(frozen=True)
class LoggedRun(Run):
    """A checkpoint's evaluation by another tool."""

    logged: Mapping[str, dict[str, Row]] = field(default_factory=dict, compare=False)

    @cached_property
    def status(self) -> Row:
        """The status of a finished run."""
        return {"state": "done", "id": LOGGED}

    @cached_property
    def answers(self) -> Answers:
        """Task -> question id -> row."""
        return dict(self.logged)


def checkpoint_folders(folder: Path) -> list[Path]:
    """Return the folders directly below a folder that hold logs; [] for a folder with runs of rlvid."""
    if not folder.is_dir() or (folder / "grid.json").is_file() or any(folder.glob("*/config.toml")):
        return []
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and log_files(path)]


def read_answers(folder: Path, metric: str = "") -> Answers:
    """Return the answers of one checkpoint by task. Raises UserError as `read_log` does."""
    return {task: read_log(path, metric) for task, path in log_files(folder).items()}


def read_logs(folder: Path, metric: str = "") -> Study:
    """Read the logs of two or more checkpoints, each of which is compared with the first by name.

    Raises:
        UserError: as `read_log` does; if there is only one checkpoint, no task that all have, or if questions differ.
    """
    checkpoints = checkpoint_folders(folder)
    if len(checkpoints) < 2:
        raise UserError(f"{folder}: logs of one checkpoint; a comparison needs a folder with one folder for each")
    answers = {path.name: read_answers(path, metric) for path in checkpoints}
    control, *others = answers
    shared = [task for task in answers[control] if all(task in answers[name] for name in others)]
    if not shared:
        tasks = "; ".join(f"{name}: {', '.join(logged)}" for name, logged in answers.items())
        raise UserError(f"{folder}: no task was logged for all checkpoints: {tasks}")
    for name in others:
        for task in shared:
            _check_questions(task, (control, name), (answers[control][task], answers[name][task]))
    runs: list[Run] = []
    for path in checkpoints:
        logged = {task: dict(sorted(rows.items())) for task, rows in answers[path.name].items()}
        runs.append(LoggedRun(path.name, 0, path, LOGGED, logged=logged))
    question = "One evaluation of each checkpoint, paired by question"
    return Study(folder.name, question, control, [(name, control) for name in others], runs)


def _check_questions(task: str, names: Sequence[str], answers: Sequence[Mapping[str, Row]]) -> None:
    """Raise UserError unless two checkpoints answered the same questions of a task."""
    first, second = answers
    if first.keys() != second.keys():
        alone = sorted(first.keys() ^ second.keys())
        raise UserError(
            f"{task}: {names[0]} answered {len(first)} questions and {names[1]} {len(second)}, "
            f"{len(first.keys() & second.keys())} of them the same; question {alone[0]} has one answer. Evaluate both "
            "with the same --limit and the same version of the task"
        )
    for id, row in first.items():
        if row["gold"] != second[id]["gold"]:
            raise UserError(
                f"{task}: question {id} has the right answer {row['gold']!r} for {names[0]} and "
                f"{second[id]['gold']!r} for {names[1]}: these are not the same questions"
            )
