"""The display of a running grid: progress bars in a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from rlvid.grids.job import Job

STATE_COLORS = {"waiting": "dim", "running": "cyan", "done": "green", "skipped": "green", "failed": "bold red"}
BAR_WIDTH = 24  # characters


class ProgressDisplay:
    """Shows a progress bar per cell and one for all; without a terminal, a line whenever a cell changes its state."""

    def __init__(self, jobs: Sequence[Job], out: Path) -> None:
        self.jobs, self.out = jobs, out
        self.started_at = time.monotonic()
        self.shown_states: dict[Job, str] = dict.fromkeys(jobs, "waiting")  # what the last printed line of a job says
        self.console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self.in_terminal = self.console.is_terminal
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(BAR_WIDTH),
            TextColumn("{task.fields[state]}"),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=self.console,
            auto_refresh=False,  # no second thread: this process forks
            disable=not self.in_terminal,
        )
        self.bars = [
            self.progress.add_task(escape(job.name), total=job.cell.steps + 1, state="", note="") for job in jobs
        ]
        self.total_bar = self.progress.add_task("[bold]all", total=len(jobs), state="", note="")

    def __enter__(self) -> ProgressDisplay:
        self.progress.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def update(self) -> None:
        """Show the present state of all jobs."""
        if self.in_terminal:
            self._draw_bars()
        else:
            self._print_changes()

    def print_summary(self) -> int:
        """Print which cells failed, and why; returns the exit code, 1 if any did."""
        failed = [job for job in self.jobs if job.state == "failed"]
        for job in failed:
            self.console.print(f"failed: {job.name}: {job.note}  (output: {job.log})")
        done = len(self.jobs) - len(failed)
        self.console.print(f"{done} of {len(self.jobs)} runs done. Next: rlvid report {self.out}")
        return 1 if failed else 0

    @property
    def _finished(self) -> int:
        return sum(job.finished for job in self.jobs)

    def _draw_bars(self) -> None:
        """Draw all bars; if the terminal has too few lines, only those of running and failed cells."""
        all_fit = len(self.jobs) < self.console.size.height - 2
        for bar, job in zip(self.bars, self.jobs, strict=True):
            state = f"step {job.step}/{job.cell.steps}" if job.state == "running" else job.state
            self.progress.update(
                bar,
                completed=job.cell.steps + 1 - job.steps_left,
                state=f"[{STATE_COLORS[job.state]}]{state}",
                note=job.note,
                visible=all_fit or job.state in ("running", "failed"),
            )
        total = f"[bold]{self._finished}/{len(self.jobs)}"
        self.progress.update(self.total_bar, completed=self._finished, state=total, note=self._time_left())
        self.progress.refresh()

    def _print_changes(self) -> None:
        """Print a line for each job whose state has changed."""
        for job in self.jobs:
            if job.state == self.shown_states[job]:
                continue
            self.shown_states[job] = job.state
            count = f"[{self._finished}/{len(self.jobs)}] " if job.finished else ""
            time_left = self._time_left() if job.finished else ""
            suffix = f"  ({time_left})" if time_left else ""
            self.console.print(f"{count}{job.state}: {job.name}  {job.note}{suffix}".rstrip())

    def _time_left(self) -> str:
        """Return the time left as text, assuming the mean pace since the start; "" before the first step."""
        started_here = [job for job in self.jobs if job.state != "skipped"]
        steps_done = sum(job.cell.steps + 1 - job.steps_left - job.first_step for job in started_here)
        if steps_done <= 0:
            return ""
        seconds_per_step = (time.monotonic() - self.started_at) / steps_done
        seconds_left = seconds_per_step * sum(job.steps_left for job in started_here)
        return f"{timedelta(seconds=round(seconds_left))} left"
