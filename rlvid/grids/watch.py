"""Show the progress of a folder of runs, read from their folders: state, step, time left, curves and alarms."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rlvid.study.runs import NOT_STARTED, Row, Run, format_accuracies
from rlvid.study.study import read_study
from rlvid.utils.files import read_jsonl

BARS = "▁▂▃▄▅▆▇█"
CURVES = {"reward": "reward", "completions/mean_length": "tokens"}  # metric -> heading
STATE_COLORS = {"running": "cyan", "done": "green", "failed": "red", NOT_STARTED: "dim"}
WIDE = 110  # columns of a terminal from which on each run takes one line
SILENT_SECONDS = 300.0  # a running run that has not updated its status for so long is marked with "?"
RECENT_STEPS = 20  # the pace of a run is the median of this many steps


def watch(runs: Path, every: float = 2.0, once: bool = False, console: Console | None = None) -> None:
    """Show the progress of a folder of runs until all of them have ended.

    Args:
        runs: a grid's folder, or one with run folders.
        every: seconds between refreshes.
        once: print once and return, as always without a terminal.
        console: where to print; default: stdout.

    Raises:
        UserError: there are no runs.
    """
    console = console or Console()
    if once or not console.is_terminal:
        console.print(render_progress(runs, console.width)[0])
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            progress, all_ended = render_progress(runs, console.width)
            live.update(progress, refresh=True)
            if all_ended:
                return
            time.sleep(every)


def render_progress(folder: Path, width: int = WIDE) -> tuple[RenderableType, bool]:
    """Return a table of runs with their last alarms and the totals, and whether all runs have ended.

    In less than `WIDE` columns, curves are shorter, and what a run is doing stands below its name.
    """
    runs, now = read_study(folder).runs, datetime.now(UTC)
    wide = width >= WIDE
    headings = ["run", "seed", "state", "step", "time left", *CURVES.values(), *(["now"] if wide else [])]
    table = Table(*headings, box=None, padding=(0, 2 if wide else 1, 0, 0))
    for column in table.columns[1:-1]:
        column.no_wrap = True
    started_first = sorted(runs, key=lambda run: not run.status)
    for run in started_first:
        table.add_row(*_table_cells(run, wide, now))
    alarms = [line for run in started_first for line in _last_alarm(run)]
    all_ended = all(_state(run) not in ("running", NOT_STARTED) for run in runs)
    return Group(table, _totals(runs), *alarms), all_ended


def _table_cells(run: Run, wide: bool, now: datetime) -> list[str | Text]:
    """Return the cells of a run's row."""
    state, activity = _state(run), current_activity(run)
    silent = state == "running" and seconds_since_update(run, now) > SILENT_SECONDS
    step = f"{last_step(run)}/{run.status['steps']}" if run.status else ""
    curves = [sparkline([row[key] for row in run.metrics if key in row], 16 if wide else 6) for key in CURVES]
    name = Text(run.arm)
    if activity and not wide:
        name.append(f"\n  {activity}", "dim")
    state_cell = Text(f"{state} ?" if silent else state, STATE_COLORS.get(state, "yellow"))
    now_cell = [Text(activity)] if wide else []
    return [name, str(run.seed), state_cell, step, _format_seconds(seconds_left(run)), *curves, *now_cell]


def _last_alarm(run: Run) -> list[Text]:
    """Return the last alarm of a run as a line, or []."""
    lines = []
    for alarm in read_jsonl(run.folder / "alarms.jsonl")[-1:]:
        sample = f" (sample {alarm['sample']})" if alarm.get("sample") else ""
        lines.append(Text(f"{run.arm}, seed {run.seed}, step {alarm['step']}: {alarm['says']}{sample}", "yellow"))
    return lines


def _totals(runs: Sequence[Run]) -> Text:
    """Return the number of runs in each state, and the time left for all, as a line."""
    states = [_state(run) for run in runs]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    time_left = _format_seconds(total_seconds_left(runs))
    return Text(f"all: {counts}" + (f"; {time_left} left" if time_left else ""), "dim")


def sparkline(values: Sequence[float], width: int = 16) -> str:
    """Return a line of at most `width` bars, each the mean of an equal part of the values; min and max set the scale.

    >>> sparkline([0, 1, 2, 3], width=2)
    '▁█'
    """
    if not values:
        return ""
    width = min(width, len(values))
    bounds = [i * len(values) // width for i in range(width + 1)]
    means = [fmean(values[start:end]) for start, end in pairwise(bounds)]
    low, high = min(means), max(means)
    return "".join(BARS[int((mean - low) / (high - low or 1) * (len(BARS) - 1))] for mean in means)


def last_step(run: Run) -> int:
    """Return the last step that the run has recorded."""
    return max(run.status["step"], *(row["step"] for row in run.metrics[-1:]), 0)


def seconds_left(run: Run) -> float | None:
    """Return the seconds for the remaining steps of a running run at its recent pace; None if that is unknown."""
    pace = seconds_per_step(run)
    if _state(run) != "running" or pace is None:
        return None
    return pace * (run.status["steps"] - last_step(run))


def total_seconds_left(runs: Sequence[Run]) -> float | None:
    """Return the seconds until all runs have ended; None if no running run has a pace yet.

    The number of runs at a time is assumed to stay the same. A run that has not started takes the median time of those
    that have.
    """
    running = [seconds for run in runs if (seconds := seconds_left(run)) is not None]
    if not running:
        return None
    started = [run for run in runs if run.status]
    durations = [pace * run.status["steps"] for run in started if (pace := seconds_per_step(run)) is not None]
    waiting = len(runs) - len(started)
    return (sum(running) + median(durations) * waiting) / len(running)


def seconds_per_step(run: Run) -> float | None:
    """Return the median seconds of a run's last `RECENT_STEPS` steps; None before the first step."""
    rows = read_jsonl(run.folder / "timing.jsonl")[-RECENT_STEPS:]
    seconds = [row["step_time"] for row in rows if "step_time" in row]
    return median(seconds) if seconds else None


def current_activity(run: Run) -> str:
    """Return what a run is doing, its error message, or its last reward; for a finished run, its accuracies."""
    last_row: Row = run.metrics[-1] if run.metrics else {}
    if accuracies := format_accuracies(last_row):
        return accuracies
    phase = run.status.get("phase") or run.status.get("message", "")
    return f"{last_row['reward']:.2f}" if "reward" in last_row and phase in ("", "train") else phase


def seconds_since_update(run: Run, now: datetime) -> float:
    """Return the seconds since a run last wrote its status; a time without a zone is UTC."""
    updated = datetime.fromisoformat(run.status["updated"])
    if not updated.tzinfo:
        updated = updated.replace(tzinfo=UTC)
    return (now - updated).total_seconds()


def _state(run: Run) -> str:
    return run.status.get("state", NOT_STARTED)


def _format_seconds(seconds: float | None) -> str:
    """Return h:mm:ss, or "" for None."""
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))
