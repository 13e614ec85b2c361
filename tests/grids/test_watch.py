"""The progress display of a folder of runs, for runs that wait, run, are silent, have failed or are done."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from rlvid.errors import UserError
from rlvid.grids.watch import render_progress, sparkline, total_seconds_left, watch
from rlvid.study.study import read_study
from rlvid.utils.files import write_jsonl
from tests.helpers.reports import write_grid
from tests.helpers.runs import rlvid


def write_run(folder, state, step, silent_seconds=0.0, **status):
    """Write the folder of a run of 10 steps, 30 s each, after some steps.

    Args:
        folder: the folder.
        state: of status.json.
        step: the number of steps so far.
        silent_seconds: the time since status.json was updated.
        status: further entries of status.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(f"seed = 0\nmodel = 'nano'\n[train]\nmax_steps = 10\nname = '{folder.name}'\n")
    updated = datetime.now(UTC) - timedelta(seconds=silent_seconds)
    about = {"state": state, "id": folder.name, "step": 0, "steps": 10, "phase": "train", "message": ""}
    about["updated"] = updated.isoformat(timespec="seconds")
    (folder / "status.json").write_text(json.dumps(about | status))
    metrics = [{"step": i + 1, "reward": i / 10, "completions/mean_length": 20.0 - i} for i in range(step)]
    write_jsonl(folder / "metrics.jsonl", metrics)
    write_jsonl(folder / "timing.jsonl", [{"step": i + 1, "step_time": 30.0} for i in range(step)])


def printed(runs, width=160):
    """The display as text, without colors."""
    console = Console(file=StringIO(), width=width)
    console.print(render_progress(runs, width)[0])
    return console.file.getvalue()


def line_of(text, name):
    """The first line that contains a run's name."""
    return next(line for line in text.splitlines() if name in line)


@pytest.fixture
def runs(tmp_path):
    """A folder with a run that works, one that is silent, and one that has failed."""
    write_run(tmp_path / "working", "running", 4)
    write_run(tmp_path / "silent", "running", 2, silent_seconds=1000)
    write_run(tmp_path / "broken", "failed", 3, phase="", message="ValueError: no")
    return tmp_path


def test_each_run_has_a_line_with_its_state_time_left_and_curves(runs):
    text = printed(runs)
    working, silent, broken = (line_of(text, name) for name in ("working", "silent", "broken"))
    assert "4/10" in working and "0:03:00" in working and working.split()[-3:-1] == ["▁▃▅█", "█▅▃▁"]
    assert "running ?" in silent and "?" not in working
    assert "failed" in broken and "ValueError: no" in broken and "0:" not in broken
    assert "2 running, 1 failed" in text or "1 failed, 2 running" in text
    assert not render_progress(runs)[1], "not all runs have ended"
    write_run(runs / "working", "done", 10)
    write_run(runs / "silent", "failed", 2)
    assert render_progress(runs)[1]


def test_an_alarm_is_shown_with_its_step_and_sample(runs):
    alarm = {"step": 3, "kind": "collapse", "says": "62 % of replies think the same", "sample": "q1"}
    write_jsonl(runs / "working" / "alarms.jsonl", [alarm])
    assert "step 3: 62 % of replies think the same (sample q1)" in printed(runs)


def test_the_total_time_left_includes_runs_that_have_not_started(tmp_path):
    """Two runs have 6 and 2 steps of 30 s left, and two of 10 steps have not started: 840 s of work, two at a time."""
    for name, state, step in (("a", "running", 4), ("b", "running", 8), ("c", "", 0), ("d", "", 0)):
        write_run(tmp_path / name, state, step)
    for name in "cd":
        (tmp_path / name / "status.json").unlink()
    write_grid(tmp_path, [(name, 0, name, name) for name in "abcd"])
    assert total_seconds_left(read_study(tmp_path).runs) == 420
    assert "all: 2 running, 2 not started; 0:07:00 left" in printed(tmp_path)


def test_nothing_is_cut_off_in_80_columns(tmp_path):
    write_run(tmp_path / "r", "running", 4)
    write_grid(tmp_path, [("sft, as many prompts, 100 % of data", 0, "r", "r")])
    text = printed(tmp_path, width=80)
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    for part in ("sft, as many", "100 % of", "running", "4/10", "0:03:00", "▁▃▅█"):
        assert part in words


def test_a_sparkline_goes_from_the_smallest_to_the_largest_value():
    assert sparkline([]) == "" and sparkline([3.0]) == "▁" and sparkline([1, 1, 1]) == "▁▁▁"
    assert sparkline([0, 7]) == "▁█" and sparkline(list(range(8))) == "▁▂▃▄▅▆▇█"
    assert sparkline([0.0] * 50 + [1.0] * 50, width=4) == "▁▁██", "a bar is the mean of many values"


def test_watch_prints_once_without_a_terminal_and_else_until_all_runs_have_ended(runs, tmp_path):
    console = Console(file=StringIO(), width=120)
    watch(runs, console=console)
    assert console.file.getvalue().count("working") == 1
    for name in ("working", "silent"):
        write_run(runs / name, "done", 10)
    watch(runs, console=Console(file=StringIO(), width=120, force_terminal=True))  # returns
    with pytest.raises(UserError, match="no folder"):
        watch(tmp_path / "nowhere")


def test_the_command_runs_without_torch(runs):
    assert rlvid("watch", str(runs), "--once").returncode == 0
    code = f"import sys; from rlvid import watch; watch({str(runs)!r}, once=True); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_a_message_is_shown_as_it_is(tmp_path):
    write_run(tmp_path / "broken", "failed", 0, phase="", message="KeyError: 'a', in `x[a]`, reply '[/think]'")
    assert "KeyError: 'a', in `x[a]`, reply '[/think]'" in line_of(printed(tmp_path, 200), "broken")
