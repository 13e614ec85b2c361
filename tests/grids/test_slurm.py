"""A grid on one node of a real Slurm; without Slurm, only its task in submitit's local executor is tested."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlvid.errors import UserError
from rlvid.grids.cell import Cell
from rlvid.grids.job import Job
from rlvid.grids.slurm import SlurmLauncher, SlurmTask
from rlvid.study.study import STATE_FILE
from rlvid.utils.files import read_jsonl
from tests.helpers.grids import FAILING, start_adaptive_grid_in, wait_until
from tests.helpers.slurm import job_states, needs_slurm, queued_jobs, start_requeued

ON_SLURM = ("--launcher", "slurm", "--slurm", "partition=low", "cpus_per_task=1")


@needs_slurm
def test_jobs_outlive_a_killed_grid_and_the_next_grid_follows_them(start_grid, grid_folder, slurm):
    options = {"long_steps": 150, "step_seconds": 0.05}
    starts = grid_folder / "starts.jsonl"
    first = start_grid(*ON_SLURM, "--jobs", "3", **options)
    wait_until(lambda: any(row["folder"].startswith("long") for row in read_jsonl(starts)), 240)
    first.kill()
    first.communicate()
    assert queued_jobs(), "the jobs are still there"
    job_files = [path for path in grid_folder.rglob("*job*") if path.parent.name != "slurm"]
    assert not job_files, "only the queue knows the ids of the jobs"
    assert (grid_folder / "slurm").stat().st_mode & 0o777 == 0o700, "nodes execute the pickles in this folder"
    second = start_grid(*ON_SLURM, "--jobs", "6", **options)
    _, err = second.communicate(timeout=240)
    assert second.returncode == 0, err
    starts_by_folder = Counter(row["folder"] for row in read_jsonl(starts))
    assert len(starts_by_folder) == 9 and set(starts_by_folder.values()) == {1}, "no cell is run twice"
    assert not queued_jobs()


@needs_slurm
@pytest.mark.parametrize("reason", ["preempted", "time is up"])
def test_a_job_that_must_end_is_requeued_and_resumes(start_grid, grid_folder, tmp_path, slurm, reason):
    (tmp_path / "hold").touch()  # both jobs are interrupted at step 7, however late one of them starts
    grid = start_grid(*ON_SLURM, "--only", "long, low", long_steps=20)
    wait_until(lambda: [len(read_jsonl(path)) for path in grid_folder.glob("long*/metrics.jsonl")] == [6, 6], 240)
    jobs = queued_jobs()
    if reason == "preempted":
        subprocess.check_call(["sbatch", "-p", "high", "-n", "2", "-o", "/dev/null", "--wrap", "sleep 1"])
    else:
        subprocess.check_call(["scancel", "--signal=USR2", *jobs])  # as Slurm does 90 s before the time is up
    wait_until(lambda: set(job_states(jobs)) == {"PENDING"}, 240)
    (tmp_path / "hold").unlink()
    while grid.poll() is None:
        start_requeued(jobs)
        time.sleep(0.5)
    assert grid.returncode == 0, grid.stderr.read()
    starts_by_folder = Counter(row["folder"] for row in read_jsonl(grid_folder / "starts.jsonl"))
    assert sorted(starts_by_folder.values()) == [2, 2]
    for folder in starts_by_folder:
        assert [row["step"] for row in read_jsonl(grid_folder / folder / "metrics.jsonl")] == list(range(1, 21))


@needs_slurm
def test_a_cell_that_fails_three_times_is_reported(start_grid, slurm):
    grid = start_grid(*ON_SLURM, "--only", "short, high", "base", high=FAILING)
    _, err = grid.communicate(timeout=240)
    assert grid.returncode == 1
    failed = [line for line in err.splitlines() if line.startswith("failed: ") and "output.log" in line]
    assert len(failed) == 2 and all("is too high (3 attempts)" in line for line in failed), err
    assert "1 of 3 runs done" in err


@needs_slurm
def test_each_look_of_an_adaptive_grid_submits_only_the_runs_that_it_adds(tmp_path, grid_folder, slurm):
    grid = start_adaptive_grid_in(tmp_path, *ON_SLURM, "--jobs", "4", "--max-seeds", "3")
    out, err = grid.communicate(timeout=240)
    assert grid.returncode == 0, err
    looks = json.loads((grid_folder / STATE_FILE).read_text())["looks"]
    seeds = {name: [look["seeds"] for look in made] for name, made in looks.items()}
    better, equal = seeds["better | base"], seeds["equal | base"]
    assert len(equal) > 1 and better == equal[: len(better)], "one comparison is open for longer"
    assert looks["better | base"][-1]["verdict"] == "better" and better[-1] < equal[-1] == 3
    assert out.count("look after") == len(equal)
    starts = Counter(row["folder"] for row in read_jsonl(grid_folder / "starts.jsonl"))
    assert len(starts) == 1 + better[-1] + equal[-1] and set(starts.values()) == {1}, "no cell is run twice"
    assert not queued_jobs()


@needs_slurm
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["partitoin=low"], "no parameter 'partitoin'. Did you mean 'partition'?"),
        (["comment=mine"], "comment cannot be set"),
        (["nodes=2"], "nodes=2 requires --accelerate YAML"),
        (["nodes=1-2"], "nodes must be a whole number of 1 or more, not 1-2"),
        (["ntasks_per_node=2"], "ntasks_per_node cannot be set: a cell is one task on each node"),
        (["partition=nowhere"], "Invalid partition name"),
    ],
)
def test_a_wrong_parameter_prints_one_line_and_exits_with_2(start_grid, slurm, words, message):
    grid = start_grid("--launcher", "slurm", "--slurm", *words)
    _, err = grid.communicate(timeout=240)
    lines = [line for line in err.splitlines() if line.startswith("rlvid: ")]
    assert grid.returncode == 2 and len(lines) == 1 and message in lines[0], err


def test_a_task_saves_its_step_and_is_requeued(tmp_path, monkeypatch):
    """In submitit's local executor, which sends the signal shortly before the time is up."""
    import submitit

    script = tmp_path / "cell.py"
    script.write_text(
        "import signal, sys, time\n"
        "from pathlib import Path\n"
        "log = Path('events.txt')\n"
        "def save(*_):\n    log.write_text(log.read_text() + 'saved ')\n    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "first = not log.exists()\n"
        "log.write_text('started ' if first else log.read_text() + 'resumed')\n"
        "time.sleep(60 if first else 0)\n"
    )
    executor = submitit.LocalExecutor(tmp_path / "submitit")
    executor.update_parameters(timeout_min=0.25, signal_delay_s=8)  # the signal comes after 7 of 15 seconds
    monkeypatch.chdir(tmp_path)
    job = executor.submit(SlurmTask((sys.executable, str(script)), str(tmp_path)))
    assert job.result() == 0
    assert (tmp_path / "events.txt").read_text() == "started saved resumed"
    assert (tmp_path / "exit_code").read_text() == "0"


def test_without_slurm_an_error_names_the_login_node(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="start the grid on a login node"):
        SlurmLauncher(None, Path(tmp_path), {})


def test_jobs_of_slurm_are_one_or_more(tmp_path):
    with pytest.raises(UserError, match="--jobs must be 1 or more, not 0"):
        SlurmLauncher(0, Path(tmp_path), {})


def test_no_cell_is_submitted_twice_while_squeue_does_not_respond(tmp_path, monkeypatch):
    """squeue fails before the first submission, and again right after it: the cell waits, and its job counts."""
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\n[ -e {tmp_path}/down ] && exit 1\ncat {tmp_path}/queue\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("rlvid.grids.slurm.QUEUE_POLL_SECONDS", 0.0)
    queue, down = tmp_path / "queue", tmp_path / "down"
    queue.write_text("")
    down.touch()
    submitted = []

    class Executor:
        def update_parameters(self, comment):
            self.comment = comment

        def submit(self, task):
            submitted.append(task)
            queue.write_text(f"7 {self.comment}\n")
            down.touch()
            return SimpleNamespace(job_id="7")

    launcher = SlurmLauncher.__new__(SlurmLauncher)
    launcher.nodes, launcher.executor, launcher._comments, launcher._listed_at = 1, Executor(), {}, 0.0
    job = Job(Cell("a", {}, 0, "nano", (), 1, "id", "a"), tmp_path / "a", ())
    job.start(launcher, 0)
    assert job.state == "waiting" and "squeue does not respond" in job.note and not submitted
    down.unlink()
    job.start(launcher, 0)
    for _ in range(3):
        job.update()
    assert job.state == "running" and len(submitted) == 1, "squeue is down again: the job is not taken for ended"
    down.unlink()
    job.update()
    assert job.state == "running"
    queue.write_text("")
    job.update()
    assert job.state == "waiting" and "left Slurm's queue" in job.note
