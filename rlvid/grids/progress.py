"""What a person sees while a grid runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

if TYPE_CHECKING:
    from rlvid.grids.launch import Job

COLOURS = {"waiting": "dim", "running": "cyan", "done": "green", "kept": "green", "failed": "bold red"}


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
        self.rows = [
            self.progress.add_task(escape(job.name), total=job.cell.steps + 1, state="", note="") for job in jobs
        ]
        self.all = self.progress.add_task("[bold]all", total=len(jobs), state="", note="")

    def __enter__(self) -> Board:
        self.progress.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def show(self) -> None:
        """Draw what has changed; where the lines are fewer than the cells, those that run or have failed."""
        over = sum(job.over for job in self.jobs)
        roomy = len(self.jobs) < self.console.size.height - 2
        for row, job in zip(self.rows, self.jobs, strict=True):
            if not self.live and job.state != self.said.get(job, "waiting"):
                count = f"[{over}/{len(self.jobs)}] " if job.over else ""
                left = f"  ({self.left()})" if job.over and self.left() else ""
                self.console.print(f"{count}{job.state}: {job.name}  {job.note}{left}".rstrip())
            self.said[job] = job.state
            state = f"step {job.step}/{job.cell.steps}" if job.state == "running" else job.state
            self.progress.update(
                row,
                completed=job.cell.steps + 1 - job.rest,
                state=f"[{COLOURS[job.state]}]{state}",
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
        return f"{timedelta(seconds=round(seconds * sum(j.rest for j in fresh) / made))} left" if made > 0 else ""

    def summary(self) -> int:
        """Say which cells failed and why; returns the exit code."""
        failed = [job for job in self.jobs if job.state == "failed"]
        for job in failed:
            self.console.print(f"failed: {job.name}: {job.note}  (its output: {job.folder / 'output.log'})")
        done = len(self.jobs) - len(failed)
        self.console.print(f"{done} of {len(self.jobs)} runs done. Next: rlvid report {self.out}")
        return 1 if failed else 0
