"""Run a grid's cells: so many at a time, each resumable, none twice, none left behind."""

from __future__ import annotations

import fcntl
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from rlvid.grids.launchers import LOST, Launcher, Process
from rlvid.grids.progress import Board
from rlvid.study.runs import Row, Run, format_metrics, last_line
from rlvid.utils.files import read_last_jsonl

if TYPE_CHECKING:
    from rlvid.grids.grid import Cell

Command = Sequence[str]  # what Python is given to train one cell, before the cell's own arguments
TICK = 0.2  # seconds between two looks at the processes
TRIES = 3  # for what may have been bad luck
MISTAKE = 2  # the exit code of a cell that cannot go better another time


class Job:
    """A cell on its way: waiting -> running -> done or failed; or kept, where it was done before."""

    def __init__(self, cell: Cell, folder: Path, command: Command) -> None:
        self.cell, self.folder, self.command = cell, folder, command
        self.name = f"{cell.arm}, seed {cell.seed}"
        self.state, self.note = "waiting", ""
        self.first = self.step = 0  # the step from which we go on, and the present one
        self.slot, self.status = -1, self.result.status
        self.tries = 0
        self.process: Process | None = None
        self.lock: IO[str] | None = None

    @property
    def result(self) -> Run:
        """What the run's folder says now."""
        return Run(self.cell.arm, self.cell.seed, self.folder, self.cell.id)

    @property
    def last(self) -> Row:
        """The metrics of its last step, so far."""
        return read_last_jsonl(self.folder / "metrics.jsonl")

    @property
    def over(self) -> bool:
        """Whether it will not be looked at again."""
        return self.state in ("done", "kept", "failed")

    @property
    def rest(self) -> int:
        """Steps to go, the evaluation counting as one."""
        return 0 if self.over else self.cell.steps + 1 - self.step

    def start(self, launcher: Launcher, slot: int) -> None:
        """Start it, unless the cell is done or, for now, another grid's; it may then be asked again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = (self.folder / ".grid-lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.lock.close()
            self.note = "in another grid"
            return
        if self.result.done:
            self.settle("kept")
            return
        arguments = [self.cell.preset, *self.cell.overrides, "--out", str(self.folder), "--resume"]
        self.process = launcher.start([sys.executable, *self.command, *arguments], self.folder, slot, self.lock)
        self.state, self.slot, self.note, self.tries = "running", slot, "load", self.tries + 1
        self.first = self.step = self.last.get("step", 0)

    def look(self) -> None:
        """See how far it is, and whether it is over."""
        if (status := self.result.status) != self.status:
            self.status, last = status, self.last
            self.step = last.get("step", 0)
            self.note = format_metrics(last) if status["phase"] == "train" else status["phase"]
        if self.process and (code := self.process.poll()) is not None:
            if code == 0:
                self.settle("done")
            elif code == MISTAKE or self.tries == TRIES:
                self.settle("failed", self.why(code) + (f" ({TRIES} tries)" if self.tries == TRIES else ""))
            else:
                self.settle("waiting", f"try {self.tries} of {TRIES} failed: {self.why(code)}")

    def settle(self, state: str, note: str = "") -> None:
        """It is over, or has to wait for another try: say how, and let go of the lock."""
        self.state, self.note = state, note or format_metrics(self.last)
        if self.lock:
            self.lock.close()

    def why(self, code: int) -> str:
        """What a failed process said last."""
        if code == LOST:
            return "it left Slurm's queue without a word: cancelled, out of memory, or a lost node?"
        if code < 0:
            return f"killed by {signal.Signals(-code).name}" + (" (out of memory?)" if code == -signal.SIGKILL else "")
        return last_line(self.folder / "output.log") or f"exit code {code}, and not a word"

    def stop(self) -> None:
        """We are leaving."""
        if self.process:
            self.process.stop()


def launch(cells: Sequence[Cell], out: Path, launcher: Launcher, command: Command) -> int:
    """Run what is not done; returns 1 if a cell failed, after all others have had their turn."""
    work = [Job(cell, out / cell.folder, command) for cell in {c.id: c for c in cells}.values()]
    slots = list(range(min(launcher.width, len(work))))
    with Board(work, out) as board:
        try:
            while ongoing := [job for job in work if not job.over]:
                for job in ongoing:
                    if job.state == "running":
                        job.look()
                        slots += [job.slot] if job.state != "running" else []
                    elif slots:
                        job.start(launcher, slots[0])
                        slots = slots[1:] if job.state == "running" else slots
                board.show()
                time.sleep(TICK)
        finally:
            for job in work:
                job.stop()
    return board.summary()
