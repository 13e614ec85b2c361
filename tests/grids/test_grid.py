"""Grids run by real processes. Only what a cell's process does is a stand-in: it counts to its number of steps."""

import json
import os
import pty
import runpy
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from rlvid.config import load
from rlvid.errors import UserError
from rlvid.grids.grid import Grid, only
from rlvid.registry import build
from tests.helpers.grids import rows, wait_for

ROOT = Path(__file__).parents[2]
GRIDS = sorted(path for path in (ROOT / "experiments").glob("[a-z]*.py") if "\nGRID = " in path.read_text())


def gone(pid):
    """No such process, or one that only waits to be buried."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def grid(**fields):
    axes = {"algorithm": {"sft": {"algorithm": "sft"}, "grpo": {}}, "noise": {"clean": {}, "noisy": NOISY}}
    fields = {"axes": axes, "arms": {"base": {"train.max_steps": 0}}, "control": "base", "seeds": (0, 3)} | fields
    return Grid(name="g", question="?", **fields)


NOISY = {"noise.kind": "symmetric", "noise.rate": 0.3}


def test_arms_are_the_product_of_the_axes_and_the_extra_ones():
    cells = grid(unseeded=("base",)).cells("nano", ["train.max_steps=7"])
    assert [(c.arm, c.seed) for c in cells] == [
        ("base", 0),
        *[(arm, seed) for arm in ("sft, clean", "sft, noisy", "grpo, clean", "grpo, noisy") for seed in (0, 3)],
    ]
    last = cells[-1]
    assert last.levels == {"algorithm": "grpo", "noise": "noisy"}
    assert last.overrides == (
        "train.max_steps=7",
        'noise.kind="symmetric"',
        "noise.rate=0.3",
        "seed=3",
        "noise.seed=3",
    )
    assert last.folder == f"grpo-noisy-seed3-{last.id[:8]}" and last.steps == 7
    assert cells[0].steps == 0, "what an arm sets stands above what is set for all"
    assert len({c.id for c in cells}) == len(cells)


def test_cells_with_equal_ids_are_one_run():
    cells = grid(arms={"base": {"train.max_steps": 0}, "again": {"rewards.accuracy": 1.0}}).cells("nano")
    twins = [c for c in cells if c.seed == 3 and c.arm in ("again", "grpo, clean")]
    assert len(twins) == 2, "the preset has it so already"
    assert len({c.id for c in twins}) == len({c.folder for c in twins}) == 1


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"control": "bas"}, "names no arm 'bas'. Did you mean 'base'?"),
        ({"comparisons": (("sft clean", "base"),)}, "Did you mean 'sft, clean'?"),
        ({"unseeded": ("bse",)}, "Did you mean 'base'?"),
    ],
)
def test_a_name_that_is_no_arm_is_refused(fields, says):
    with pytest.raises(UserError) as error:
        grid(**fields).cells("nano")
    assert says in str(error.value)


@pytest.mark.parametrize("script", GRIDS, ids=lambda path: path.stem)
def test_the_shipped_experiments_are_ready_to_run(script):
    assert len(GRIDS) >= 6
    made = runpy.run_path(str(script))["GRID"]
    cells = made.cells("nano")
    assert made.name == script.stem and made.question.endswith("?") and made.control in {c.arm for c in cells}
    assert {c.seed for c in cells} == set(made.seeds)
    assert made.unseeded and all(sum(c.arm == arm for c in cells) == 1 for arm in made.unseeded)


def test_a_cell_that_fails_is_named_and_the_others_go_on(start, tmp_path):
    mad = "{'train.learning_rate': 666.0}"
    first = start("--jobs", "3", high=mad)
    out, err = first.communicate(timeout=60)
    assert first.returncode == 1 and out == ""
    failed = [line for line in err.splitlines() if line.startswith("failed: ") and "output.log" in line]
    assert {line.split(":")[1].strip() for line in failed} == {
        f"{pace}, high, seed {seed}" for pace in ("short", "long") for seed in (0, 1)
    }
    assert all("train.learning_rate is out of its mind" in line and "so it begins" not in line for line in failed)
    runs = tmp_path / "runs" / "counting"
    plan = json.loads((runs / "grid.json").read_text())
    assert plan["control"] == "base" and ["short, low", "base"] in plan["comparisons"] and len(plan["cells"]) == 9
    states = {
        c["arm"]: json.loads((runs / c["folder"] / "status.json").read_text())
        for c in plan["cells"]
        if "low" in c["arm"]
    }
    assert {s["state"] for s in states.values()} == {"done"}

    before = Counter(row["folder"] for row in rows(runs / "starts.jsonl"))
    again = start("--jobs", "3", high=mad)
    again.communicate(timeout=60)
    after = Counter(row["folder"] for row in rows(runs / "starts.jsonl")) - before
    assert again.returncode == 1 and after and all("-high-" in folder for folder in after), (
        "what is done is not run again"
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_grid_leaves_no_process_behind_and_goes_on(start, tmp_path, how):
    runs = tmp_path / "runs" / "counting"
    grid = {"long": 60, "seconds": 0.02}
    first = start("--jobs", "2", **grid)
    wait_for(lambda: any(row["folder"].startswith("long") for row in rows(runs / "starts.jsonl")))
    first.send_signal(how)
    _, err = first.communicate(timeout=20)
    assert first.returncode == (130 if how == signal.SIGINT else -how) and "Traceback" not in err
    begun, ended = rows(runs / "starts.jsonl"), {row["folder"] for row in rows(runs / "ends.jsonl")}
    wait_for(lambda: all(gone(row["pid"]) for row in begun), 5)

    second = start("--jobs", "4", **grid)
    _, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    cells = json.loads((runs / "grid.json").read_text())["cells"]
    assert len(cells) == 9
    for cell in cells:
        steps = [row["step"] for row in rows(runs / cell["folder"] / "metrics.jsonl")]
        assert json.loads((runs / cell["folder"] / "status.json").read_text())["state"] == "done"
        assert steps == list(range(1, len(steps) + 1)), "a process that went on has counted with its successor"
    starts = Counter(row["folder"] for row in rows(runs / "starts.jsonl"))
    assert all(starts[folder] == 1 for folder in ended), "what was done was not run again"
    assert max(starts.values()) == 2, "what was cut off was"


def test_two_grids_in_one_folder_share_the_cells(start, tmp_path):
    pair = [start("--jobs", "2", long=15, seconds=0.02) for _ in range(2)]
    for each in pair:
        _, err = each.communicate(timeout=60)
        assert each.returncode == 0, err
    starts = Counter(row["folder"] for row in rows(tmp_path / "runs" / "counting" / "starts.jsonl"))
    assert len(starts) == 9 and set(starts.values()) == {1}


def test_jobs_share_gpus_and_cores(start, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | {"CUDA_VISIBLE_DEVICES": "4,GPU-7"}
    start(env=environment).communicate(timeout=60)
    started = rows(tmp_path / "runs" / "counting" / "starts.jsonl")
    assert {row["CUDA_VISIBLE_DEVICES"] for row in started} == {"4", "GPU-7"}, "by default, one job for each GPU"
    assert {row["OMP_NUM_THREADS"] for row in started} == {str(max(1, os.cpu_count() // 2))}


def test_a_dry_run_lists_the_cells_and_does_nothing(start, tmp_path):
    dry = start("--dry-run", env=os.environ | {"COLUMNS": "200"})
    out, _ = dry.communicate(timeout=30)
    assert dry.returncode == 0 and out.count("0 of 2") == 4 and out.count("0 of 1") == 1 and "train.max_steps=2" in out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--preset", "nanno"], "Did you mean 'nano'?"),
        (["--set", "train.stpes=3"], "Did you mean 'steps'?"),
        (["--jobs", "0"], "--jobs must be 1 or more"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(start, arguments, says):
    wrong = start(*arguments)
    _, err = wrong.communicate(timeout=30)
    assert wrong.returncode == 2 and says in err and len(err.splitlines()) == 1


def test_on_a_terminal_there_is_a_line_for_each_cell(start):
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    grid = start("--jobs", "4", seconds=0.6, env=environment, stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # the other end is closed: the grid is over
            break
    assert grid.wait() == 0
    text = shown.decode()
    assert all(
        f"{pace}, {rate}, seed {s}" in text for pace in ("short", "long") for rate in ("low", "high") for s in (0, 1)
    )
    assert "step 1/2" in text and "reward 0.50" in text and "9/9" in text and " left" in text


def test_a_level_may_depend_on_the_others_and_some_arms_need_not_exist():
    def told(levels):
        assert levels["preset"] == "nano"
        return {"algorithm": "rloo", "train.temperature": 0.5} if levels["labels"] == "noisy" else None

    grid = Grid(
        name="told",
        question="?",
        axes={
            "algorithm": {"grpo": {}, "told": told},
            "labels": {"clean": {}, "noisy": {"noise.kind": "symmetric", "noise.rate": 0.1}},
        },
        seeds=(0, 1),
        control="grpo, clean",
    )
    cells = grid.cells("nano")
    assert list(dict.fromkeys(cell.arm for cell in cells)) == ["grpo, clean", "grpo, noisy", "told, noisy"]
    assert "train.temperature=0.5" in cells[-1].overrides and "noise.rate=0.1" in cells[-1].overrides
    assert [(c.arm, c.seed) for c in only(cells, ["told, *", "*, noisy"])] == [
        ("told, noisy", 0), ("told, noisy", 1), ("grpo, noisy", 0), ("grpo, noisy", 1)
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"'tolld, noisy' fits no arm\. Did you mean 'told, noisy'"):
        only(cells, ["tolld, noisy"])


@pytest.mark.parametrize("name", ["noise_robustness", "algorithm_ablation", "reward_ablation", "base_reasoning"])
def test_arms_that_do_not_say_so_pull_as_their_control_does(name):
    """An algorithm's own default for `beta` is not an arm's; of preferences it is no pull."""
    grid = runpy.run_path(str(ROOT / "experiments" / f"{name}.py"))["GRID"]
    for cell in grid.cells("nano"):
        config = load(cell.preset, cell.overrides)
        if config.algorithm.name != "dpo" and "beta" not in cell.arm:
            assert build("algorithms", config.algorithm.name, **config.algorithm.fields).beta == 0, cell.arm
