"""Watching: what is told of runs that wait, go, are silent, fail and are done, from their folders alone."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from rlvid.errors import UserError
from rlvid.grids.watch import board, in_all, spark, watch
from rlvid.study.study import read_study
from tests.helpers.runs import rlvid


def write(folder, state, step, silent=0.0, **status):
    """A run's folder as a run leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(f"seed = 0\n[train]\nmax_steps = 10\nname = '{folder.name}'\n")
    said = (datetime.now(UTC) - timedelta(seconds=silent)).isoformat(timespec="seconds")
    about = {
        "state": state,
        "id": folder.name,
        "step": 0,
        "steps": 10,
        "phase": "train",
        "message": "",
        "updated": said,
    }
    (folder / "status.json").write_text(json.dumps(about | status))
    rows = [{"step": i + 1, "reward": i / 10, "completions/mean_length": 20.0 - i} for i in range(step)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    times = [{"step": i + 1, "step_time": 30.0} for i in range(step)]
    (folder / "timing.jsonl").write_text("".join(json.dumps(row) + "\n" for row in times))


def told(runs):
    """Run -> its line, and whether all are over; wide, without colours."""
    shown, over = board(runs)
    console = Console(file=StringIO(), width=160)
    console.print(shown)
    text = console.file.getvalue()
    names = [path.name for path in runs.iterdir()]
    return {n: next(line for line in text.splitlines() if n in line) for n in names}, text, over


@pytest.fixture
def runs(tmp_path):
    write(tmp_path / "goes", "running", 4)
    write(tmp_path / "silent", "running", 2, silent=1000)
    write(tmp_path / "broke", "failed", 3, phase="", message="ValueError: no")
    return tmp_path


def test_each_run_is_told_as_it_is(runs):
    lines, text, over = told(runs)
    assert "4/10" in lines["goes"] and "0:03:00" in lines["goes"] and lines["goes"].split()[-3:-1] == ["▁▃▅█", "█▅▃▁"]
    assert "running ?" in lines["silent"] and "?" not in lines["goes"]
    assert "failed" in lines["broke"] and "ValueError: no" in lines["broke"] and "0:" not in lines["broke"]
    assert "2 running, 1 failed" in text or "1 failed, 2 running" in text
    assert not over
    write(runs / "goes", "done", 10)
    write(runs / "silent", "failed", 2)
    assert told(runs)[2]


def test_an_alarm_is_shown_with_its_step(runs):
    alarm = {"step": 3, "kind": "collapse", "says": "62 % of replies think the same", "sample": "q1"}
    (runs / "goes" / "alarms.jsonl").write_text(json.dumps(alarm) + "\n")
    assert "step 3: 62 % of replies think the same (sample q1)" in told(runs)[1]


def test_time_left_in_all_counts_what_has_not_begun(tmp_path):
    """Two running ones have 6 and 2 steps of 30 s to go, two of ten steps are to come: 840 s, two at a time."""
    for name, state, step in (("a", "running", 4), ("b", "running", 8), ("c", "", 0), ("d", "", 0)):
        write(tmp_path / name, state, step)
    for name in "cd":
        (tmp_path / name / "status.json").unlink()
    cells = [{"arm": name, "seed": 0, "folder": name, "id": name, "levels": {}} for name in "abcd"]
    about = {"name": "g", "question": "q", "control": "a", "comparisons": [], "cells": cells}
    (tmp_path / "grid.json").write_text(json.dumps(about))
    assert in_all(read_study(tmp_path).runs) == 420
    console = Console(file=StringIO(), width=160)
    console.print(board(tmp_path)[0])
    assert "all: 2 running, 2 not started; 0:07:00 left" in console.file.getvalue()


def test_eighty_columns_hold_every_word(tmp_path):
    write(tmp_path / "r", "running", 4)
    name = "sft, as many prompts, 100 % of data"
    cells = [{"arm": name, "seed": 0, "folder": "r", "id": "r", "levels": {}}]
    about = {"name": "g", "question": "q", "control": name, "comparisons": [], "cells": cells}
    (tmp_path / "grid.json").write_text(json.dumps(about))
    console = Console(file=StringIO(), width=80)
    console.print(board(tmp_path, 80)[0])
    text = console.file.getvalue()
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    shown = " ".join(text.split())
    for part in ("sft, as many", "100 % of", "running", "4/10", "0:03:00", "▁▃▅█"):
        assert part in shown


def test_bars_go_from_the_least_to_the_largest():
    assert spark([]) == "" and spark([3.0]) == "▁" and spark([1, 1, 1]) == "▁▁▁"
    assert spark([0, 7]) == "▁█" and spark(list(range(8))) == "▁▂▃▄▅▆▇█"
    assert spark([0.0] * 50 + [1.0] * 50, width=4) == "▁▁██", "many steps share a bar"


def test_it_looks_once_where_there_is_no_terminal_and_ends_when_all_are_over(runs, tmp_path):
    console = Console(file=StringIO(), width=120)
    watch(runs, console=console)
    assert console.file.getvalue().count("goes") == 1
    for name in ("goes", "silent"):
        write(runs / name, "done", 10)
    watch(runs, console=Console(file=StringIO(), width=120, force_terminal=True))  # returns
    with pytest.raises(UserError, match="no folder"):
        watch(tmp_path / "nowhere")


def test_the_verb_answers_without_torch(runs):
    assert rlvid("watch", str(runs), "--once").returncode == 0
    code = f"import sys; from rlvid import watch; watch({str(runs)!r}, once=True); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
