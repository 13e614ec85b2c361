"""Runs as they go: state, progress, time left, reward and length so far, alarms; read from their folders alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import fmean, median

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rlvid.study.runs import NOT_STARTED, Row, Run
from rlvid.study.study import read_study
from rlvid.utils.files import read_jsonl

BARS = "▁▂▃▄▅▆▇█"
COURSES = {"reward": "reward", "completions/mean_length": "tokens"}
COLOURS = {"running": "cyan", "done": "green", "failed": "red", NOT_STARTED: "dim"}
WIDE = 110  # columns from which on all of a run stands in one line
SILENT = 300.0  # seconds without a word after which a run that says it is running is doubted


def watch(runs: Path, every: float = 2.0, once: bool = False, console: Console | None = None) -> None:
    """Draw a folder of runs anew `every` so many seconds, until all are over; `once`, just once."""
    console = console or Console()
    if once or not console.is_terminal:
        console.print(board(runs, console.width)[0])
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            shown, over = board(runs, console.width)
            live.update(shown, refresh=True)
            if over:
                return
            time.sleep(every)


def board(runs: Path, width: int = WIDE) -> tuple[RenderableType, bool]:
    """The table of a folder's runs, what alarmed them, all in one line; and whether all of them are over.

    Where there is less room than `WIDE` columns, courses are shorter, and what a run does now stands under its name.
    """
    results, now = read_study(runs).runs, datetime.now(UTC)
    wide = width >= WIDE
    columns = ("run", "seed", "state", "step", "left", *COURSES.values(), *(["now"] if wide else []))
    table = Table(*columns, box=None, padding=(0, 2 if wide else 1, 0, 0))
    for column in table.columns[1:-1]:
        column.no_wrap = True
    alarms: list[Text] = []
    for result in sorted(results, key=lambda r: not r.status):
        state = result.status.get("state", NOT_STARTED)
        doubt = " ?" if state == "running" and age(result, now) > SILENT else ""
        steps = f"{reached(result)}/{result.status['steps']}" if result.status else ""
        bars = 16 if wide else 6
        courses = [spark([row[key] for row in result.metrics if key in row], bars) for key in COURSES]
        shown, does = Text(state + doubt, COLOURS.get(state, "yellow")), last(result)
        name = Text(result.arm) if wide or not does else Text.assemble(result.arm, "\n", (f"  {does}", "dim"))
        table.add_row(name, str(result.seed), shown, steps, _clock(left(result)), *courses, *([does] if wide else []))
        for alarm in read_jsonl(result.folder / "alarms.jsonl")[-1:]:
            sample = f" (sample {alarm['sample']})" if alarm.get("sample") else ""
            where = f"{result.arm}, seed {result.seed}, step {alarm['step']}"
            alarms.append(Text(f"{where}: {alarm['says']}{sample}", "yellow"))
    counts = [r.status.get("state", NOT_STARTED) for r in results]
    tally = ", ".join(f"{counts.count(state)} {state}" for state in dict.fromkeys(counts))
    rest = _clock(in_all(results))
    over = all(state not in ("running", NOT_STARTED) for state in counts)
    return Group(table, Text(f"all: {tally}" + (f"; {rest} left" if rest else ""), "dim"), *alarms), over


def spark(values: Sequence[float], width: int = 16) -> str:
    """A line of bars: the means of `width` stretches, from the least to the largest."""
    if not values:
        return ""
    width = min(width, len(values))
    means = [fmean(values[i * len(values) // width : (i + 1) * len(values) // width]) for i in range(width)]
    low, high = min(means), max(means)
    return "".join(BARS[int((value - low) / (high - low or 1) * (len(BARS) - 1))] for value in means)


def reached(result: Run) -> int:
    """The last step that is written down."""
    return max(result.status["step"], *(row["step"] for row in result.metrics[-1:]), 0)


def left(result: Run) -> float | None:
    """The seconds that a running run's steps will take, at the median pace of its last twenty."""
    each = pace(result)
    if result.status.get("state") != "running" or each is None:
        return None
    return each * (result.status["steps"] - reached(result))


def in_all(results: Sequence[Run]) -> float | None:
    """The seconds until all are over, if as many go on at a time, and what has not begun is like the others."""
    rests = [rest for result in results if (rest := left(result)) is not None]
    if not rests:
        return None
    wholes = [each * r.status["steps"] for r in results if r.status and (each := pace(r)) is not None]
    return (sum(rests) + median(wholes) * sum(not r.status for r in results)) / len(rests)


def pace(result: Run) -> float | None:
    """The median seconds of a run's last twenty steps; None before the first."""
    took = [row["step_time"] for row in read_jsonl(result.folder / "timing.jsonl")[-20:] if "step_time" in row]
    return median(took) if took else None


def _clock(seconds: float | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


def last(result: Run) -> str:
    """What a run does, or its last reward; for a finished one, its accuracies."""
    row: Row = result.metrics[-1] if result.metrics else {}
    levels = {key.split("/")[1]: row[key] for key in row if key.startswith("eval/") and key.endswith("/accuracy")}
    if levels:
        return "  ".join(f"{level} {value:.1%}" for level, value in levels.items())
    phase = result.status.get("phase") or result.status.get("message", "")
    return f"{row['reward']:.2f}" if "reward" in row and phase in ("", "train") else phase


def age(result: Run, now: datetime) -> float:
    """Seconds since a run last said something."""
    said = datetime.fromisoformat(result.status["updated"])
    return (now - (said if said.tzinfo else said.replace(tzinfo=UTC))).total_seconds()
