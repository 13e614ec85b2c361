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
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from rlvid.errors import UserError
from rlvid.study.runs import Result, Row, last_line

if TYPE_CHECKING:
    from rlvid.study.grid import Cell

Command = Sequence[str]  # what Python is given to train one cell, before the cell's own arguments
TICK = 0.2  # seconds between two looks at the processes
OVER = {"done": "green", "kept": "green", "failed": "bold red"}  # states that a cell does not leave, and their colours


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
    def rest(self) -> int:
        """Steps to go, the evaluation counting as one."""
        return 0 if self.state in OVER else self.cell.steps + 1 - self.step

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
            while ongoing := [job for job in work if job.state not in OVER]:
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


class Board:
    """What a person sees: a line for each cell and one for them all; plain lines where there is no terminal."""

    def __init__(self, jobs: Sequence[Job], out: Path) -> None:
        self.jobs, self.out, self.begun = jobs, out, time.monotonic()
        self.said: dict[Job, str] = {}  # without a terminal: the last state told
        self.console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self.live = self.console.is_terminal
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(24),
            TextColumn("{task.fields[state]}"),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=self.console,
            auto_refresh=False,  # so that this stays a program of one thread, which may fork
            disable=not self.live,
        )
        self.rows = [self.progress.add_task(job.name, total=job.cell.steps + 1, state="", note="") for job in jobs]
        self.all = self.progress.add_task("[bold]all", total=len(jobs), state="", note="")

    def __enter__(self) -> Board:
        self.progress.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def show(self) -> None:
        """Draw what has changed; where the lines are fewer than the cells, those that run or have failed."""
        over = sum(job.state in OVER for job in self.jobs)
        roomy = len(self.jobs) < self.console.size.height - 2
        for row, job in zip(self.rows, self.jobs, strict=True):
            if not self.live and job.state != self.said.get(job, "waiting"):
                count = f"[{over}/{len(self.jobs)}] " if job.state in OVER else ""
                self.console.print(f"{count}{job.state}: {job.name}  {job.note}".rstrip())
            self.said[job] = job.state
            state = f"step {job.step}/{job.cell.steps}" if job.state == "running" else job.state
            self.progress.update(
                row,
                completed=job.cell.steps + 1 - job.rest,
                state=f"[{OVER.get(job.state, 'cyan' if job.state == 'running' else 'dim')}]{state}",
                note=job.note,
                visible=roomy or job.state in ("running", "failed"),
            )
        self.progress.update(self.all, completed=over, state=f"[bold]{over}/{len(self.jobs)}", note=self.left())
        self.progress.refresh()

    def left(self) -> str:
        """The time left, if all goes on as since we began."""
        fresh = [job for job in self.jobs if job.state != "kept"]
        made = sum(job.cell.steps + 1 - job.rest - job.first for job in fresh)
        seconds = time.monotonic() - self.begun
        return f"{timedelta(seconds=round(seconds * sum(j.rest for j in fresh) / made))} left" if made else ""

    def summary(self) -> int:
        """Say which cells failed and why; returns the exit code."""
        failed = [job for job in self.jobs if job.state == "failed"]
        for job in failed:
            self.console.print(f"failed: {job.name}: {job.note}  (its output: {job.folder / 'output.log'})")
        done = len(self.jobs) - len(failed)
        self.console.print(f"{done} of {len(self.jobs)} runs done. Next: rlvid report {self.out}")
        return 1 if failed else 0


def gpus() -> list[str]:
    """The GPUs to share out: those that CUDA_VISIBLE_DEVICES names, else all that the driver knows."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in named.split(",") if name]
    return [str(i) for i, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]


def numbers(row: Row) -> str:
    """A step's accuracies by level, else its reward and accuracy."""
    levels = {key.split("/")[1]: row[key] for key in row if key.startswith("eval/") and key.endswith("/accuracy")}
    if levels:
        return "  ".join(f"{level} {value:.1%}" for level, value in levels.items())
    shown = {"reward": "reward", "rewards/accuracy/mean": "accuracy"}
    return "  ".join(f"{name} {row[key]:.2f}" for key, name in shown.items() if key in row)


def die_with_parent() -> None:
    """In the new process: be killed when its parent is (Linux; elsewhere the inherited lock keeps a second away)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
