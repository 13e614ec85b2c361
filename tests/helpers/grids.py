"""Grid scripts whose cells are stand-ins for training runs."""

import json
import subprocess
import sys
import time

import pytest

TRAIN = """
import argparse, json, os, sys, time
from pathlib import Path
from rlvid.config import load
from rlvid.utils.files import append_jsonl, read_jsonl, write_text
parser = argparse.ArgumentParser()
parser.add_argument("preset")
parser.add_argument("overrides", nargs="*")
parser.add_argument("--out", type=Path)
parser.add_argument("--resume", action="store_true")
args = parser.parse_args()
config = load(args.preset, args.overrides)
say = {k: os.environ.get(k) for k in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}
append_jsonl(args.out.parent / "starts.jsonl", {"folder": args.out.name, "pid": os.getpid(), **say})
def status(state, phase):
    about = {"state": state, "id": config.id, "phase": phase, "message": "", "updated": str(time.time())}
    write_text(args.out / "status.json", json.dumps(about | {"step": 0, "steps": config.train.max_steps}))
for step in range(len(read_jsonl(args.out / "metrics.jsonl")) + 1, config.train.max_steps + 1):
    if config.train.learning_rate > 1:
        print("so it begins", file=sys.stderr)
        raise SystemExit("rlvid: train.learning_rate is out of its mind\\n")
    append_jsonl(args.out / "metrics.jsonl", {"step": step, "reward": 0.5})
    status("running", "train")
    time.sleep(config.train.temperature)
status("done", "")
append_jsonl(args.out.parent / "ends.jsonl", {"folder": args.out.name})
"""


GRID = """
import sys
from rlvid.grid.grid import Grid
GRID = Grid(
    name="counting",
    question="Does it count?",
    axes={
        "pace": {"short": {"train.max_steps": 2}, "long": {"train.max_steps": %(long)d}},
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


@pytest.fixture
def start(tmp_path):
    """Start a grid script of 9 cells whose processes run the stand-in."""
    (tmp_path / "train.py").write_text(TRAIN)

    def start(*arguments, long=3, seconds=0.01, high="{'train.learning_rate': 0.5}", **popen):
        (tmp_path / "counting.py").write_text(GRID % {"long": long, "high": high})
        pace = ["--set", f"train.temperature={seconds}"]
        popen = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | popen
        return subprocess.Popen([sys.executable, "counting.py", *pace, *arguments], cwd=tmp_path, **popen)

    return start


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)
