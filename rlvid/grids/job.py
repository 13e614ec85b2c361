"""One cell while a grid runs: its process, its state and its attempts."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from rlvid.grids.cell import Cell
from rlvid.grids.launchers import NO_EXIT_CODE, OUTPUT_LOG, CellProcess, Launcher
from rlvid.study.runs import Row, Run, describe_signal, failure_line, format_metrics
from rlvid.utils.files import read_last_jsonl
from rlvid.utils.interrupts import interrupts_deferred

Command = Sequence[str]  # the arguments of Python that train one cell; the cell's own arguments follow
MAX_ATTEMPTS = 3  # a failure may be temporary, such as a lost node
USER_ERROR = 2  # the exit code for an error in the input; another attempt would fail in the same way


class Job:
    """A cell while a grid runs.

    `state` goes from "waiting" to "running", and from there to "done" or "failed", or back to "waiting" for another
    attempt. A cell whose run was done before is "skipped".
    """

    def __init__(self, cell: Cell, folder: Path, command: Command) -> None:
        self.cell, self.folder, self.command = cell, folder, command
        self.name = f"{cell.arm}, seed {cell.seed}"
        self.state = "waiting"
        self.note = ""  # what it does or why it failed, in words
        self.step = 0
        self.first_step = 0  # the step from which this grid's last attempt continues
        self.slot = -1  # the slot of the launcher, while it runs
        self.attempts = 0
        self.status = self.run.status
        self.process: CellProcess | None = None
        self.lock: IO[str] | None = None

    @property
    def run(self) -> Run:
        """The run, read anew from its folder."""
        return Run(self.cell.arm, self.cell.seed, self.folder, self.cell.id)

    @property
    def log(self) -> Path:
        """The output of the last attempt; of several machines, that of the first that failed."""
        return self.folder / (self.process.log_name if self.process else OUTPUT_LOG)

    @property
    def last_metrics(self) -> Row:
        """The metrics of the last step so far, or {}."""
        return read_last_jsonl(self.folder / "metrics.jsonl")

    @property
    def finished(self) -> bool:
        """Whether the cell is done, skipped or failed."""
        return self.state in ("done", "skipped", "failed")

    @property
    def steps_left(self) -> int:
        """The number of remaining steps; the evaluation counts as one."""
        return 0 if self.finished else self.cell.steps + 1 - self.step

    def start(self, launcher: Launcher, slot: int) -> None:
        """Start the cell, unless it is done or another grid runs it; in that case it stays "waiting"."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = (self.folder / ".grid-lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.lock.close()
            self.note = "running in another grid"
            return
        if self.run.done:
            self._leave_slot("skipped")
            return
        arguments = [self.cell.preset, *self.cell.overrides, "--out", str(self.folder), "--resume"]
        with interrupts_deferred():
            process = launcher.start([sys.executable, *self.command, *arguments], self.folder, slot, self.lock)
            self.process = process or self.process
        if process is None:
            self.lock.close()
            self.note = "waiting: squeue does not respond"
            return
        self.state, self.note = "running", "load"
        self.slot = slot
        self.attempts += 1
        self.first_step = self.step = self.last_metrics.get("step", 0)

    def update(self) -> None:
        """Read how far the run is, and whether its process has ended."""
        status = self.run.status
        if status != self.status:
            metrics = self.last_metrics
            self.status = status
            self.step = metrics.get("step", 0)
            self.note = format_metrics(metrics) if status["phase"] == "train" else status["phase"]
        exit_code = self.process.poll() if self.process else None
        if exit_code is not None:
            self._end_attempt(exit_code)

    def stop(self) -> None:
        """Stop the process, because the grid ends."""
        if self.process:
            self.process.stop()

    def _end_attempt(self, exit_code: int) -> None:
        """Set the state after the process has ended."""
        if exit_code == 0:
            self._leave_slot("done")
            return
        reason = self._failure_reason(exit_code)
        if self.attempts == MAX_ATTEMPTS:
            self._leave_slot("failed", f"{reason} ({MAX_ATTEMPTS} attempts)")
        elif exit_code == USER_ERROR:
            self._leave_slot("failed", reason)
        else:
            self._leave_slot("waiting", f"attempt {self.attempts} of {MAX_ATTEMPTS} failed: {reason}")

    def _leave_slot(self, state: str, note: str = "") -> None:
        """Set a state other than "running", and release the lock of the folder."""
        self.state, self.note = state, note or format_metrics(self.last_metrics)
        if self.lock:
            self.lock.close()

    def _failure_reason(self, exit_code: int) -> str:
        """Return why a process failed: its signal, or a line of its output; of several nodes, which one failed."""
        node = "" if self.log.name == OUTPUT_LOG else f"{self.log.stem.removeprefix('output-')}: "
        if exit_code == NO_EXIT_CODE:
            line = "it left Slurm's queue without an exit code: cancelled, out of memory, or a lost node?"
        elif exit_code < 0:
            line = describe_signal(-exit_code)
        else:
            line = failure_line(self.log) or f"exit code {exit_code}, without any output"
        return node + line
