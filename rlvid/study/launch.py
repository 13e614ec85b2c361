"""Run a grid's cells as processes of this machine: so many at a time, each resumable, none twice, none left behind."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from rlvid.errors import UserError
from rlvid.study.board import Board
from rlvid.study.runs import Result, Row, last_line, numbers

if TYPE_CHECKING:
    from rlvid.study.grid import Cell

Command = Sequence[str]  # what Python is given to train one cell, before the cell's own arguments
TICK = 0.2  # seconds between two looks at the processes


class Job:
    """A cell on its way: waiting -> running -> done or failed; or kept, where it was done before."""

    def __init__(self, cell: Cell, folder: Path, command: Command) -> None:
        self.cell, self.folder, self.command = cell, folder, command
        self.name = f"{cell.arm}, seed {cell.seed}"
        self.state, self.note = "waiting", ""
        self.first = self.step = 0  # the step from which we go on, and the present one
        self.slot, self.status = -1, self.result.status
        self.process: subprocess.Popen[bytes] | None = None
        self.lock: IO[str] | None = None

    @property
    def result(self) -> Result:
        """What the run's folder says now."""
        return Result(self.cell.arm, self.cell.seed, self.folder, self.cell.id)

    @property
    def last(self) -> Row:
        """The metrics of its last step, so far."""
        return next(reversed(self.result.metrics), {})

    @property
    def over(self) -> bool:
        """Whether it will not be looked at again."""
        return self.state in ("done", "kept", "failed")

    @property
    def rest(self) -> int:
        """Steps to go, the evaluation counting as one."""
        return 0 if self.over else self.cell.steps + 1 - self.step

    def start(self, slot: int, environment: Mapping[str, str]) -> None:
        """Start the process, unless the cell is done or, for now, another grid's; it may then be asked again."""
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
        with (self.folder / "output.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.command, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a group of its own, so that its own children can be ended with it
                preexec_fn=die_with_parent,
                pass_fds=[self.lock.fileno()],  # the lock is held until the last of us is gone
            )
        self.state, self.slot, self.note = "running", slot, "load"
        self.first = self.step = self.last.get("step", 0)

    def look(self) -> None:
        """See how far it is, and whether it is over."""
        if (status := self.result.status) != self.status:
            self.status, last = status, self.last
            self.step = last.get("step", 0)
            self.note = numbers(last) if status["phase"] == "train" else status["phase"]
        if self.process and (code := self.process.poll()) is not None:
            self.settle("done" if code == 0 else "failed")

    def settle(self, state: str) -> None:
        """It is over: say how, and let go of the lock."""
        self.state = state
        self.note = self.why() if state == "failed" else numbers(self.last)
        if self.lock:
            self.lock.close()

    def why(self) -> str:
        """What a failed process said last."""
        code = self.process.returncode if self.process else 0
        if code < 0:
            return f"killed by {signal.Signals(-code).name}" + (" (out of memory?)" if code == -signal.SIGKILL else "")
        return last_line(self.folder / "output.log") or f"exit code {code}, and not a word"

    def stop(self) -> None:
        """End the process and its children; the run resumes from its last checkpoint."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def launch(cells: Sequence[Cell], out: Path, jobs: int | None, command: Command) -> int:
    """Run what is not done, `jobs` at a time; returns 1 if a cell failed, after all others have had their turn."""
    devices = gpus()
    width = jobs if jobs is not None else max(1, len(devices))
    if width < 1:
        raise UserError(f"--jobs must be 1 or more, not {width}")
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // width))}
    slots = list(range(width))
    work = [Job(cell, out / cell.folder, command) for cell in {c.id: c for c in cells}.values()]
    with Board(work, out) as board:
        try:
            while ongoing := [job for job in work if not job.over]:
                for job in ongoing:
                    if job.state == "running":
                        job.look()
                        slots += [job.slot] if job.state != "running" else []
                    elif slots:
                        device = {"CUDA_VISIBLE_DEVICES": devices[slots[0] % len(devices)]} if devices else {}
                        job.start(slots[0], threads | os.environ | device)
                        slots = slots[1:] if job.state == "running" else slots
                board.show()
                time.sleep(TICK)
        finally:
            for job in work:
                job.stop()
    return board.summary()


def gpus() -> list[str]:
    """The GPUs to share out: those that CUDA_VISIBLE_DEVICES names, else all that the driver knows."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in named.split(",") if name]
    return [str(i) for i, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]


def die_with_parent() -> None:
    """In the new process: be killed when its parent is (Linux; elsewhere the inherited lock keeps a second away)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
