"""Cells that run on two nodes of a real Slurm, and what they need that can be tested without one."""

import os
import re
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlvid.__main__ import main
from rlvid.errors import UserError
from rlvid.grids.accelerate import check_process_count, launch_command
from rlvid.grids.cell import Arm, make_cell
from rlvid.grids.launchers import NO_EXIT_CODE
from rlvid.grids.slurm import ENDED_BY_SLURM, SlurmJob, exit_code_name
from rlvid.study.runs import failure_line
from rlvid.utils.files import read_json, read_jsonl
from tests.helpers.grids import READ_COMMAND_LINE, wait_until
from tests.helpers.processes import SMALL, several
from tests.helpers.slurm import NODES, job_states, kill_processes, needs_slurm, queued_jobs, start_requeued

DDP = Path(__file__).parents[2] / "experiments/presets/ddp.yaml"
GRID_SCRIPT = """
from rlvid.grids import Grid

GRID = Grid(name="nodes", question="Do two nodes suffice?", arms={"base": {}}, seeds=(0,), control="base")
if __name__ == "__main__":
    raise SystemExit(GRID.main(command=%r))
"""
# A cell of two processes that ends well at its third start. As in a run, SIGTERM to rank 0 ends both; rank 1 is first.
CELL_SCRIPT = (
    """
import argparse, json, os, signal, sys, time
from pathlib import Path
from rlvid.config import load
from rlvid.utils.files import append_jsonl, read_jsonl, write_text
"""
    + READ_COMMAND_LINE
    + """rank, ended = int(os.environ["RANK"]), Path("ended")
starts = Path(f"starts-{rank}.jsonl")

def end(*_):
    ended.touch()
    time.sleep(2)
    sys.exit(130)

signal.signal(signal.SIGTERM, end)
append_jsonl(starts, {"node": os.environ["SLURMD_NODENAME"]})
while len(read_jsonl(starts)) < 3:
    time.sleep(0.05)
    if ended.exists():
        sys.exit(130)
if rank == 0:
    write_text(args.out / "status.json", json.dumps({"state": "done", "id": config.id, "phase": "", "step": 0}))
"""
)


@pytest.fixture
def start_on_two_nodes(tmp_path, monkeypatch, slurm):
    """A function that starts a grid of one cell, which runs as one process on each of two nodes."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    (tmp_path / "ddp.yaml").write_text(DDP.read_text().replace("num_processes: 8", "num_processes: 1"))

    def start(*arguments, command=("-m", "rlvid", "train")):
        (tmp_path / "nodes.py").write_text(GRID_SCRIPT % (command,))
        on_nodes = ["--launcher", "slurm", "--slurm", "partition=both", "nodes=2", "--accelerate", "ddp.yaml"]
        words = [sys.executable, "nodes.py", *on_nodes, *arguments]
        return subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@needs_slurm
@pytest.mark.parametrize("dies", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_two_nodes_give_the_metrics_of_two_processes_even_if_one_of_them_dies(start_on_two_nodes, tmp_path, dies):
    settings = [*SMALL, "train.max_steps=2", "train.save_steps=1"]
    reference = tmp_path / "reference"
    for child in several(reference, *settings, "seed=0"):
        exit_code, output = child.end()
        assert exit_code == 0, output
    grid = start_on_two_nodes("--set", *settings)
    if dies:
        wait_for_rows(grid, 1, tmp_path, "runs/nodes/base-*/metrics.jsonl")
        kill_processes("node2")
    _, err = grid.communicate(timeout=300)
    assert grid.returncode == 0 and ("attempt 1 of 3 failed: node1: it left Slurm's queue" in err) == dies, err
    (metrics,) = tmp_path.glob("runs/nodes/base-*/metrics.jsonl")
    assert metrics.read_bytes() == (reference / "metrics.jsonl").read_bytes()
    assert read_json(metrics.with_name("environment.json"))["processes"] == 2
    assert "step 2/2" in metrics.with_name("output.log").read_text()
    assert "step 2/2" not in metrics.with_name("output-node1.log").read_text(), "only rank 0 reports"


@needs_slurm
def test_a_cell_is_requeued_although_one_node_ends_first_and_repeated_after_one_died(start_on_two_nodes, tmp_path):
    (tmp_path / "train.py").write_text(CELL_SCRIPT)
    grid = start_on_two_nodes(command=("train.py",))
    wait_for_rows(grid, 1, tmp_path, "starts-0.jsonl", "starts-1.jsonl")
    jobs = queued_jobs()
    subprocess.check_call(["scancel", "--signal=USR2", *jobs])  # as Slurm does 90 s before the time is up
    wait_until(lambda: job_states(jobs) == ["PENDING"], 240)
    (tmp_path / "ended").unlink()
    # Slurm counts a requeued job as failed if its script ends in that very moment: then the grid submits another one.
    starts = [tmp_path / f"starts-{rank}.jsonl" for rank in (0, 1)]
    wait_until(lambda: start_requeued(jobs) or all(len(read_jsonl(path)) == 2 for path in starts), 240)
    jobs = queued_jobs()
    kill_processes("node2")
    wait_until(lambda: not set(jobs) & set(queued_jobs()), 240)
    (tmp_path / "ended").unlink()
    _, err = grid.communicate(timeout=240)
    assert grid.returncode == 0, err
    *of_slurm, failure = [line for line in err.splitlines() if "attempt" in line]
    assert "failed: node1: it left Slurm's queue without an exit code" in failure and len(of_slurm) <= 1, err
    for rank, node in enumerate(NODES):
        assert read_jsonl(tmp_path / f"starts-{rank}.jsonl") == [{"node": node}] * 3


@pytest.mark.parametrize(
    ("exit_codes", "log", "exit_code"),
    [
        ({0: 0, 1: 0}, "output.log", 0),
        ({0: 0, 1: 1}, "output.log", 0),  # node 0 had finished the run
        ({1: 1, 0: ENDED_BY_SLURM}, "output-node1.log", 1),
        ({1: 1, 0: 1}, "output-node1.log", 1),  # in the order of their ends
        ({0: 1, 1: 1}, "output.log", 1),
        ({0: ENDED_BY_SLURM}, "output-node1.log", NO_EXIT_CODE),
        ({}, "output.log", NO_EXIT_CODE),
        ({1: ENDED_BY_SLURM, 0: ENDED_BY_SLURM}, "output.log", ENDED_BY_SLURM),
    ],
)
def test_the_node_that_failed_first_tells_why_the_cell_failed(tmp_path, exit_codes, log, exit_code):
    for seconds, (node, code) in enumerate(exit_codes.items()):
        file = tmp_path / exit_code_name(node)
        file.write_text(str(code))
        os.utime(file, (seconds, seconds))
    launcher = SimpleNamespace(nodes=2, queued_jobs=dict)
    job = SlurmJob("7", tmp_path, launcher)
    assert (job.log_name, job.poll()) == (log, exit_code)


def test_the_line_of_a_process_stands_before_the_report_of_its_launcher(tmp_path):
    (tmp_path / "cell.py").write_text(
        "import os\nprint('step 1')\nif os.environ['RANK'] == '1': raise OSError('no clip')"
    )
    command = launch_command(DDP, ("cell.py",))
    options = ["--num_processes", "2", "--main_process_port", "0"]
    log = tmp_path / "output.log"
    with log.open("w") as file:
        words = [sys.executable, *command[:-1], *options, command[-1]]
        assert subprocess.run(words, stdout=file, stderr=file, cwd=tmp_path).returncode == 1
    text = log.read_text()
    text = text.replace("OSError: no clip\n", "OSError: no clip\nstep 2 of the other process\n")
    log.write_text(text)
    assert len(text.splitlines()) > 30 and failure_line(log) == "OSError: no clip"
    log.write_text(text.replace("(exitcode: 1)", "(exitcode: -9)"))
    assert failure_line(log) == "a process was killed by SIGKILL (out of memory?)"


@pytest.mark.parametrize(
    ("text", "total"),
    [("num_processes: 8", "16"), ("num_processes: 8\nnum_machines: 4", "4"), ("num_processes: 1", "2")],
)
def test_each_node_runs_as_many_processes_as_the_file_has_per_machine(tmp_path, text, total):
    (tmp_path / "a.yaml").write_text(text)
    command = launch_command(tmp_path / "a.yaml", ("train.py",), machines=2)
    assert command[-5:] == ("--num_machines", "2", "--num_processes", total, "train.py")


def test_every_preset_of_accelerate_can_run_on_several_nodes():
    presets = list(DDP.parent.glob("*.yaml"))
    assert len(presets) == 4
    for preset in presets:
        assert launch_command(preset, (), machines=2)[-1] == "16"


@pytest.mark.parametrize(("machines", "num_processes"), [(1, 8), (2, 16)])
def test_more_processes_than_prompts_are_refused_before_a_cell_starts(machines, num_processes):
    command = launch_command(DDP, (), machines)
    for prompts in (num_processes - 1, num_processes):
        cell = make_cell(Arm("base", {}, {}), 0, "qwen2_vl_7b", [f"train.prompts_per_step={prompts}"])
        expected = f"arm 'base': train.prompts_per_step = {prompts} is too small for {num_processes} processes"
        refused = pytest.raises(UserError, match=expected) if prompts < num_processes else nullcontext()
        with refused:
            check_process_count([cell], command)


def test_a_grid_of_more_processes_than_prompts_starts_nothing(tmp_path, capsys):
    words = ["grid", "experiments/noise_robustness.py", "--accelerate", str(DDP), "--out", str(tmp_path / "grid")]
    assert main([*words, "--set", "train.prompts_per_step=4"]) == 2
    assert "too small for 8 processes" in capsys.readouterr().err
    assert not list(tmp_path.glob("grid/*/status.json"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not an accelerate config"),
        ("num_machines: 2", "'num_processes'"),
        ("num_processes: 3\nnum_machines: 2", "num_processes = 3 is not a multiple of num_machines = 2"),
        ("num_processes: many", "many"),
        ("[", "expected"),
        ("num_processes: 8\ndeepspeed_config: {zero_stage: 3}", "deepspeed_multinode_launcher: standard"),
    ],
)
def test_a_file_that_several_nodes_cannot_use_is_refused(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        launch_command(tmp_path / "a.yaml", ("train.py",), machines=2)


def wait_for_rows(grid, count, folder, *patterns):
    """Wait until a grid's cell has written so many rows to each of some files of a folder."""
    deadline = time.monotonic() + 200
    while not all(any(len(read_jsonl(path)) == count for path in folder.glob(pattern)) for pattern in patterns):
        assert grid.poll() is None, grid.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
