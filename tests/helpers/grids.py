"""A grid script of 9 cells, each of which runs a script that stands in for training: it counts its steps."""

import shutil
import subprocess
import sys
import time

READ_COMMAND_LINE = """
parser = argparse.ArgumentParser()
parser.add_argument("preset")
parser.add_argument("overrides", nargs="*")
parser.add_argument("--out", type=Path)
parser.add_argument("--resume", action="store_true")
args = parser.parse_args()
config = load(args.preset, args.overrides)
"""

# With a learning rate above 1 a cell fails; the temperature is the number of seconds that a step takes. While the file
# `hold` lies beside the script, a cell waits before its seventh step.
CELL_SCRIPT = (
    """
import argparse, json, os, sys, time
from pathlib import Path
from rlvid.config import load
from rlvid.utils.files import append_jsonl, read_jsonl, write_text
"""
    + READ_COMMAND_LINE
    + """environment = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}
append_jsonl(args.out.parent / "starts.jsonl", {"folder": args.out.name, "pid": os.getpid(), **environment})

def write_status(state, phase):
    status = {"state": state, "id": config.id, "phase": phase, "message": "", "updated": str(time.time())}
    write_text(args.out / "status.json", json.dumps(status | {"step": 0, "steps": config.train.max_steps}))

first_step = len(read_jsonl(args.out / "metrics.jsonl")) + 1
for step in range(first_step, config.train.max_steps + 1):
    if config.train.learning_rate > 1:
        print("first line of output", file=sys.stderr)
        raise SystemExit("rlvid: train.learning_rate is too high\\n")
    while step == 7 and Path(__file__).with_name("hold").exists():
        time.sleep(0.05)
    append_jsonl(args.out / "metrics.jsonl", {"step": step, "reward": 0.5})
    write_status("running", "train")
    time.sleep(config.train.temperature)
write_status("done", "")
append_jsonl(args.out.parent / "ends.jsonl", {"folder": args.out.name})
"""
)

GRID_SCRIPT = """
from rlvid.grids import Grid

GRID = Grid(
    name="counting",
    question="Does it count?",
    axes={
        "pace": {"short": {"train.max_steps": 2}, "long": {"train.max_steps": %(long_steps)d}},
        "rate": {"low": {}, "high": %(high)s},
    },
    arms={"base": {"train.max_steps": 0}},
    unseeded=("base",),
    seeds=(0, 1),
    control="base",
)
if __name__ == "__main__":
    raise SystemExit(GRID.main(command=("train.py",)))
"""

WORKING = "{'train.learning_rate': 0.5}"  # settings of the level "high"
FAILING = "{'train.learning_rate': 666.0}"

# A cell of an adaptive grid answers 400 questions, of which it gets a share of `train.temperature` right.
ADAPTIVE_CELL_SCRIPT = (
    """
import argparse, json
from pathlib import Path
import numpy as np
from rlvid.config import load
from rlvid.utils.files import append_jsonl, write_jsonl, write_text
"""
    + READ_COMMAND_LINE
    + """append_jsonl(args.out.parent / "starts.jsonl", {"folder": args.out.name})
write_text(args.out / "config.toml", config.to_toml())
right = np.random.default_rng([config.seed, int(100 * config.train.temperature)]).random((2, 400))
for level, row in zip(("L1", "L2"), right < config.train.temperature):
    answers = [{"id": f"{level}-{i}", "gold": "A", "correct": bool(x), "length": 30} for i, x in enumerate(row)]
    write_jsonl(args.out / "eval" / f"{level}.jsonl", answers)
status = {"state": "done", "id": config.id, "step": 2, "steps": 2, "phase": "", "message": "", "updated": "2026-01-02"}
write_text(args.out / "status.json", json.dumps(status))
"""
)

ADAPTIVE_GRID_SCRIPT = """
from rlvid.grids import Grid

accuracies = {"base": 0.4, "better": 0.75, "equal": 0.42}
GRID = Grid(
    name="counting",
    question="Which is better?",
    arms={arm: {"train.temperature": share} for arm, share in accuracies.items()},
    unseeded=("base",),
    seeds=(0, 1),
    control="base",
)
if __name__ == "__main__":
    raise SystemExit(GRID.main(command=("train.py",)))
"""


def start_adaptive_grid_in(folder, *arguments):
    """Start the script of an adaptive grid of three arms as a process; runs go to FOLDER/runs/counting."""
    (folder / "train.py").write_text(ADAPTIVE_CELL_SCRIPT)
    (folder / "counting.py").write_text(ADAPTIVE_GRID_SCRIPT)
    command = [sys.executable, "counting.py", "--until", "decided", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start_grid_in(folder, *arguments, long_steps=3, step_seconds=0.01, high=WORKING, **options):
    """Start the grid script as a process.

    Args:
        folder: where the scripts are written and started; runs go to FOLDER/runs/counting.
        arguments: of the command line.
        long_steps: the number of steps of the level "long".
        step_seconds: the time that a step takes.
        high: the settings of the level "high", as Python source.
        options: of `subprocess.Popen`.
    """
    (folder / "train.py").write_text(CELL_SCRIPT)
    (folder / "counting.py").write_text(GRID_SCRIPT % {"long_steps": long_steps, "high": high})
    command = [sys.executable, "counting.py", "--set", f"train.temperature={step_seconds}", *arguments]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen(command, cwd=folder, **options)


def slurm_queue():
    """What Slurm says of its jobs; "" without Slurm."""
    if not shutil.which("scontrol"):
        return ""
    return subprocess.run(["scontrol", "show", "job"], capture_output=True, text=True).stdout


def wait_until(condition, seconds=120):
    """Wait until `condition()` is true; fails after some seconds, with what Slurm's queue holds then."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true after {seconds} s\n{slurm_queue()}"
        time.sleep(0.05)
