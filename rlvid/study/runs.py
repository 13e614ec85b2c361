"""One run of a study, read back from its folder: its status, metrics and answers."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rlvid.utils.files import read_json, read_jsonl, read_toml

Row = Mapping[str, Any]  # one line of a JSON-lines file, or one JSON object
NOT_STARTED = "not started"
MAX_METRIC_ROWS = 2000  # of a longer run, about this many rows of metrics.jsonl are read
LAUNCHER_LOG = "torch/distributed/elastic/"  # in each line of torch's launcher, which `accelerate launch` runs
ERROR_LINE = re.compile(r"(\[rank\d+\]: ?)?(rlvid: |[\w.]*(Error|Exception)\b)")  # as rlvid or Python writes them
LAUNCHER_REPORT = re.compile(rf"{LAUNCHER_LOG}\S+ failed \(exitcode: (-?\d+)\)")


@dataclass(frozen=True)
class Run:
    """One arm trained with one seed, in its folder. Files are read when they are first needed."""

    arm: str
    seed: int
    folder: Path
    id: str  # of the config that was planned for this folder; see `done`
    axis_levels: Mapping[str, str] = field(default_factory=dict, compare=False)  # axis -> level, in a grid with axes

    @cached_property
    def status(self) -> Row:
        """The content of status.json, or {} if there is none yet."""
        return read_json(self.folder / "status.json") or {}

    @property
    def done(self) -> bool:
        """Whether the run is complete, and the folder holds this config's run, not another one's."""
        return self.status.get("state") == "done" and self.status["id"] == self.id

    @property
    def progress(self) -> str:
        """How far the run came, in words, such as "running at step 20 of 60 (2026-01-02 03:04 UTC)"."""
        if not self.status:
            return failure_line(self.folder / "output.log") or NOT_STARTED
        status = self.status
        message = f": {status['message'].splitlines()[0]}" if status.get("message") else ""
        updated = status["updated"][:16].replace("T", " ")
        return f"{status['state']} at step {status['step']} of {status['steps']}{message} ({updated} UTC)"

    @cached_property
    def took_no_step(self) -> bool:
        """Whether the run was planned without a training step; False if there is no config."""
        path = self.folder / "config.toml"
        return path.is_file() and takes_no_step(read_toml(path))

    @cached_property
    def configured_levels(self) -> Sequence[str]:
        """The levels of the run's own benchmark, in the order of its config; levels of a transfer benchmark are not."""
        return configured_levels(self.folder)

    @cached_property
    def metrics(self) -> Sequence[Row]:
        """One row per step; long runs are thinned to about `MAX_METRIC_ROWS`, but every evaluation is kept."""
        return read_jsonl(self.folder / "metrics.jsonl", thin_to=MAX_METRIC_ROWS, always_keep=b'"eval/')

    @cached_property
    def answers(self) -> dict[str, dict[str, Row]]:
        """Level -> question id -> row of eval/LEVEL.jsonl, the last of each id; {} for a run that is not done."""
        return {level: {row["id"]: row for row in rows} for level, rows in self._answer_lines.items()}

    @property
    def repeated_answers(self) -> dict[str, int]:
        """Level -> lines whose question another line answers, too."""
        return {level: len(rows) - len({row["id"] for row in rows}) for level, rows in self._answer_lines.items()}

    @cached_property
    def _answer_lines(self) -> dict[str, list[dict[str, Any]]]:
        files = sorted((self.folder / "eval").glob("*.jsonl")) if self.done else []
        return {path.stem: read_jsonl(path) for path in files}


def takes_no_step(config: Mapping[str, Any]) -> bool:
    """Return whether a run with this config, as config.toml has it, takes no training step, nor one of a cold start."""
    return config["train"]["max_steps"] == 0 and not config.get("cold_start", {}).get("max_steps")


def configured_levels(folder: Path) -> Sequence[str]:
    """Return `eval.splits` of a run's config, or () if there is no config."""
    path = folder / "config.toml"
    return read_toml(path).get("eval", {}).get("splits", ()) if path.is_file() else ()


def order_levels(levels: Iterable[str], configured: Sequence[str]) -> list[str]:
    """Order levels as they are configured; the others, such as transfer levels, follow by name, 60s before 600s."""
    names = set(levels)
    return [*(level for level in configured if level in names), *sorted(names - set(configured), key=_natural_key)]


def _natural_key(name: str) -> list[str]:
    """Sort key that compares numbers inside a name by value: digits are padded with zeros."""
    return [part.zfill(9) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def failure_line(log: Path) -> str:
    """Return the line of a log that says why its process failed, or "" if the log is empty.

    That is the last line, unless `accelerate launch` ended the log with its report of some thirty lines: then it is the
    last error that a process wrote before, the last line if there is none, or the signal that killed the process.
    """
    text = log.read_text(errors="replace") if log.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or set(lines[-1]) != {"="}:  # with such a line the report ends
        return lines[-1] if lines else ""
    for number, line in reversed(list(enumerate(lines))):
        if report := LAUNCHER_REPORT.search(line):
            exit_code = int(report[1])
            if exit_code < 0:
                return f"a process was {describe_signal(-exit_code)}"
            written = [each for each in lines[:number] if LAUNCHER_LOG not in each]
            errors = [each for each in written if ERROR_LINE.match(each)]  # other processes may have written since
            return (errors or written or [line])[-1]
    return lines[-1]


def describe_signal(number: int) -> str:
    """Return how a signal ended a process, in words.

    >>> describe_signal(15)
    'killed by SIGTERM'
    """
    hint = " (out of memory?)" if number == signal.SIGKILL else ""
    known = [each.name for each in signal.Signals if each == number]  # real-time signals have no name
    return f"killed by {known[0] if known else f'signal {number}'}{hint}"


def one_run_each(runs: Sequence[Run]) -> tuple[list[Run], list[tuple[str, str]]]:
    """Return one run for each seed and folder of an arm, a finished one if there is one; and (folder, why) of others.

    A copy of a run tells nothing of other seeds.
    """
    kept: dict[tuple[str, int | Path], Run] = {}
    counted: set[int] = set()
    others = []
    for run in sorted(runs, key=lambda run: not run.done):
        places: list[tuple[str, int | Path]] = [(run.arm, run.seed), (run.arm, run.folder)]
        if other := next((kept[place] for place in places if place in kept), None):
            others.append((run.folder.name, f"{run.arm}, seed {other.seed} again: {other.folder.name} counts"))
        else:
            kept |= dict.fromkeys(places, run)
            counted.add(id(run))
    return [run for run in runs if id(run) in counted], others


def format_metrics(row: Row) -> str:
    """Return a step's accuracy by level if it has an evaluation, else its reward and training accuracy, as text."""
    if accuracies := format_accuracies(row):
        return accuracies
    names = {"reward": "reward", "rewards/accuracy/mean": "accuracy"}
    return "  ".join(f"{name} {row[key]:.2f}" for key, name in names.items() if key in row)


def format_accuracies(row: Row) -> str:
    """Return a step's accuracy by level as text, "" if it has no evaluation."""
    accuracies = {key.split("/")[1]: row[key] for key in row if re.fullmatch("eval/.*/accuracy", key)}
    return "  ".join(f"{level} {value:.1%}" for level, value in accuracies.items())
