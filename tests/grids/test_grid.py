"""The cells of a grid, and grids run by real processes, in which a script that counts stands in for training."""

import json
import os
import pty
import runpy
import signal
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from rlvid.config import load
from rlvid.errors import UserError
from rlvid.grids.cell import select_cells
from rlvid.grids.grid import Grid
from rlvid.registry import build
from rlvid.study.study import read_study
from rlvid.utils.files import read_jsonl
from tests.helpers.grids import FAILING, wait_until

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted(path for path in (ROOT / "experiments").glob("[a-z]*.py") if "\nGRID = " in path.read_text())
NOISY = {"noise.kind": "symmetric", "noise.rate": 0.3}


def make_grid(**fields):
    """A grid of two algorithms, with and without noise, and of an untrained base; `fields` replace its fields."""
    axes = {"algorithm": {"sft": {"algorithm": "sft"}, "grpo": {}}, "noise": {"clean": {}, "noisy": NOISY}}
    defaults = {"axes": axes, "arms": {"base": {"train.max_steps": 0}}, "control": "base", "seeds": (0, 3)}
    return Grid(name="g", question="?", **defaults | fields)


def has_ended(pid):
    """Whether a process does not exist, or is a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def read_status(folder):
    return json.loads((folder / "status.json").read_text())


def test_arms_are_all_combinations_of_levels_and_the_further_ones():
    cells = make_grid(unseeded=("base",)).cells("nano", ["train.max_steps=7"])
    combinations = ("sft, clean", "sft, noisy", "grpo, clean", "grpo, noisy")
    assert [(cell.arm, cell.seed) for cell in cells] == [
        ("base", 0),
        *[(arm, seed) for arm in combinations for seed in (0, 3)],
    ]
    last = cells[-1]
    assert last.axis_levels == {"algorithm": "grpo", "noise": "noisy"}
    assert last.overrides == (
        "train.max_steps=7",
        'noise.kind="symmetric"',
        "noise.rate=0.3",
        "seed=3",
        "noise.seed=3",
    )
    assert last.folder == f"grpo-noisy-seed3-{last.id[:8]}" and last.steps == 7
    assert cells[0].steps == 0, "the settings of an arm take precedence over those for all cells"
    assert len({cell.id for cell in cells}) == len(cells)


def test_cells_with_equal_configs_are_one_run():
    cells = make_grid(arms={"base": {"train.max_steps": 0}, "again": {"rewards.accuracy": 1.0}}).cells("nano")
    equal = [cell for cell in cells if cell.seed == 3 and cell.arm in ("again", "grpo, clean")]
    assert len(equal) == 2, "the preset has the same weight"
    assert len({cell.id for cell in equal}) == len({cell.folder for cell in equal}) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"control": "bas"}, "has no arm 'bas'. Did you mean 'base'?"),
        ({"comparisons": (("sft clean", "base"),)}, "Did you mean 'sft, clean'?"),
        ({"unseeded": ("bse",)}, "Did you mean 'base'?"),
        ({"interactions": (("sft, clean", "sft, nosy", "grpo, clean", "grpo, noisy"),)}, "Did you mean 'sft, noisy'?"),
        ({"interactions": (("sft, clean", "sft, noisy"),)}, "an interaction is (arm, arm changed, other, other chang"),
        ({"interactions": (("sft, clean", "sft, noisy") * 2,)}, "of which one change differs from the other, not ("),
        ({"effect_order": (("sft, clean", "base", "sft, noisy", "base"),)}, "effect_order needs three or more of (arm"),
        ({"effect_order": (("sft, clean", "base", "sft, nosy", "base"),) * 3}, "Did you mean 'sft, noisy'?"),
        ({"seeds": (0, 1, 0)}, "seeds= needs different numbers, not (0, 1, 0)"),
        ({"comparisons": (("base", "base"),)}, "a comparison is (arm, other arm), two different ones"),
        ({"equivalence_margin": 3.0}, "equivalence_margin must be a share such as 0.03, not 3.0"),
    ],
)
def test_an_unknown_arm_or_a_margin_that_is_no_share_is_an_error(fields, message):
    with pytest.raises(UserError) as error:
        make_grid(**fields).cells("nano")
    assert message in str(error.value)


def test_contrasts_that_would_have_one_name_are_refused():
    """One of them would take the other's numbers, in the report and in adaptive.json."""
    names = ("a | b", "c", "a", "b | c", "a to b", "c to d", "b", "d")
    arms = {name: {"train.max_steps": step} for step, name in enumerate(names, start=1)}
    with pytest.raises(UserError, match=r"'g': \('a \| b', 'c'\) and \('a', 'b \| c'\) would both be called"):
        make_grid(arms=arms, comparisons=(("a | b", "c"), ("a", "b | c")), control="c").cells("nano")
    with pytest.raises(UserError, match=r"\('a to b', 'c to d'\) and \('a', 'b', 'c', 'd'\) would both be called"):
        make_grid(
            arms=arms, comparisons=(("a to b", "c to d"),), interactions=(("a", "b", "c", "d"),), control="c"
        ).cells("nano")
    assert make_grid(arms=arms, comparisons=(("a | b", "c"), ("a", "b")), control="c").cells("nano")


def test_interactions_are_written_into_the_plan(tmp_path):
    planned = ("sft, clean", "sft, noisy", "grpo, clean", "grpo, noisy")
    grid = make_grid(interactions=(planned,), unseeded=("base",))
    assert grid.main(["--out", str(tmp_path)], command=("-c", "")) in (0, 1)
    assert json.loads((tmp_path / "grid.json").read_text())["interactions"] == [list(planned)]
    assert read_study(tmp_path).interactions == [planned]


@pytest.mark.parametrize("script", EXPERIMENTS, ids=lambda path: path.stem)
def test_the_shipped_experiments_are_complete(script):
    assert len(EXPERIMENTS) >= 6
    grid = runpy.run_path(str(script))["GRID"]
    cells = grid.cells("nano")
    assert grid.name == script.stem and grid.question.endswith("?") and grid.control in {cell.arm for cell in cells}
    assert {cell.seed for cell in cells} == set(grid.seeds)
    assert grid.unseeded and all(sum(cell.arm == arm for cell in cells) == 1 for arm in grid.unseeded)


def test_a_failed_cell_is_reported_and_the_others_are_run(start_grid, grid_folder):
    first = start_grid("--jobs", "3", high=FAILING)
    out, err = first.communicate(timeout=240)
    assert first.returncode == 1 and out == ""
    failed = [line for line in err.splitlines() if line.startswith("failed: ") and "output.log" in line]
    assert {line.split(":")[1].strip() for line in failed} == {
        f"{pace}, high, seed {seed}" for pace in ("short", "long") for seed in (0, 1)
    }
    assert all("train.learning_rate is too high" in line and "first line of output" not in line for line in failed)
    plan = json.loads((grid_folder / "grid.json").read_text())
    assert plan["control"] == "base" and ["short, low", "base"] in plan["comparisons"] and len(plan["cells"]) == 9
    low = [cell for cell in plan["cells"] if "low" in cell["arm"]]
    assert {read_status(grid_folder / cell["folder"])["state"] for cell in low} == {"done"}

    before = Counter(row["folder"] for row in read_jsonl(grid_folder / "starts.jsonl"))
    again = start_grid("--jobs", "3", high=FAILING)
    again.communicate(timeout=240)
    restarted = Counter(row["folder"] for row in read_jsonl(grid_folder / "starts.jsonl")) - before
    assert again.returncode == 1 and restarted
    assert all("-high-" in folder for folder in restarted), "finished cells are not run again"


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_grid_leaves_no_process_behind_and_can_be_continued(start_grid, grid_folder, sent):
    options = {"long_steps": 60, "step_seconds": 0.02}
    first = start_grid("--jobs", "2", **options)
    starts = grid_folder / "starts.jsonl"
    wait_until(lambda: any(row["folder"].startswith("long") for row in read_jsonl(starts)))
    first.send_signal(sent)
    _, err = first.communicate(timeout=240)
    assert first.returncode == (130 if sent == signal.SIGINT else -sent) and "Traceback" not in err
    started = read_jsonl(starts)
    ended = {row["folder"] for row in read_jsonl(grid_folder / "ends.jsonl")}
    wait_until(lambda: all(has_ended(row["pid"]) for row in started), 30)

    second = start_grid("--jobs", "4", **options)
    _, err = second.communicate(timeout=240)
    assert second.returncode == 0, err
    cells = json.loads((grid_folder / "grid.json").read_text())["cells"]
    assert len(cells) == 9
    for cell in cells:
        steps = [row["step"] for row in read_jsonl(grid_folder / cell["folder"] / "metrics.jsonl")]
        assert read_status(grid_folder / cell["folder"])["state"] == "done"
        assert steps == list(range(1, len(steps) + 1)), "two processes wrote at the same time"
    starts_by_folder = Counter(row["folder"] for row in read_jsonl(starts))
    assert all(starts_by_folder[folder] == 1 for folder in ended), "finished cells are not run again"
    assert max(starts_by_folder.values()) == 2, "interrupted cells are"


def test_two_grids_in_one_folder_share_the_cells(start_grid, grid_folder):
    grids = [start_grid("--jobs", "2", long_steps=15, step_seconds=0.02) for _ in range(2)]
    for grid in grids:
        _, err = grid.communicate(timeout=240)
        assert grid.returncode == 0, err
    starts = Counter(row["folder"] for row in read_jsonl(grid_folder / "starts.jsonl"))
    assert len(starts) == 9 and set(starts.values()) == {1}


def test_cells_share_gpus_and_cores(start_grid, grid_folder):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    start_grid(env=environment | {"CUDA_VISIBLE_DEVICES": "4,GPU-7"}).communicate(timeout=240)
    starts = read_jsonl(grid_folder / "starts.jsonl")
    assert {row["CUDA_VISIBLE_DEVICES"] for row in starts} == {"4", "GPU-7"}, "one cell per GPU is the default"
    assert {row["OMP_NUM_THREADS"] for row in starts} == {str(max(1, os.cpu_count() // 2))}


def test_a_dry_run_lists_the_cells_and_runs_none(start_grid, tmp_path):
    grid = start_grid("--dry-run", env=os.environ | {"COLUMNS": "200"})
    out, _ = grid.communicate(timeout=240)
    assert grid.returncode == 0
    assert out.count("0 of 2") == 4 and out.count("0 of 1") == 1 and "train.max_steps=2" in out
    assert not (tmp_path / "runs").exists()


def test_settings_of_all_cells_may_stand_after_one_set_or_several(start_grid):
    settings = ["--set", "train.save_steps=7", "train.top_p=0.5", "--set", "train.warmup_steps=9"]
    out, err = start_grid("--dry-run", *settings, env=os.environ | {"COLUMNS": "400"}).communicate(timeout=240)
    assert out.count("train.save_steps=7 train.top_p=0.5 train.warmup_steps=9") == 5, err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "nanno"], "Did you mean 'nano'?"),
        (["--set", "train.max_stpes=3"], "Did you mean 'max_steps'?"),
        (["--jobs", "0"], "--jobs must be 1 or more"),
        (["--slurm", "low", "--launcher", "slurm"], "--slurm 'low' is not key=value"),
    ],
)
def test_a_wrong_argument_prints_one_line_and_exits_with_2(start_grid, arguments, message):
    grid = start_grid(*arguments)
    _, err = grid.communicate(timeout=240)
    assert grid.returncode == 2 and message in err and len(err.splitlines()) == 1


def test_a_terminal_shows_a_progress_bar_per_cell(start_grid):
    leader, follower = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    options = {"env": environment, "stderr": follower, "stdout": subprocess.DEVNULL}
    grid = start_grid("--jobs", "4", step_seconds=0.6, **options)
    os.close(follower)
    shown = b""
    while True:
        try:
            shown += os.read(leader, 65536)
        except OSError:  # how Linux reports that the other end is closed
            break
    os.close(leader)
    assert grid.wait() == 0
    text = shown.decode()
    arms = [f"{pace}, {rate}" for pace in ("short", "long") for rate in ("low", "high")]
    assert all(f"{arm}, seed {seed}" in text for arm in arms for seed in (0, 1))
    assert "step 1/2" in text and "reward 0.50" in text and "9/9" in text and " left" in text


def test_a_level_may_depend_on_the_other_axes_and_may_leave_out_arms():
    def corrected(levels):
        assert levels["preset"] == "nano"
        return {"algorithm": "rloo", "train.temperature": 0.5} if levels["labels"] == "noisy" else None

    noisy = {"noise.kind": "symmetric", "noise.rate": 0.1}
    axes = {"algorithm": {"grpo": {}, "corrected": corrected}, "labels": {"clean": {}, "noisy": noisy}}
    cells = Grid(name="g", question="?", axes=axes, seeds=(0, 1), control="grpo, clean").cells("nano")
    assert list(dict.fromkeys(cell.arm for cell in cells)) == ["grpo, clean", "grpo, noisy", "corrected, noisy"]
    assert "train.temperature=0.5" in cells[-1].overrides and "noise.rate=0.1" in cells[-1].overrides


def test_cells_are_selected_by_patterns_in_the_order_of_the_patterns():
    cells = make_grid().cells("nano")
    selected = select_cells(cells, ["grpo, *", "*, noisy"])
    arms = ("grpo, clean", "grpo, noisy", "sft, noisy")
    assert [(cell.arm, cell.seed) for cell in selected] == [(arm, seed) for arm in arms for seed in (0, 3)]
    assert select_cells(cells, None) == cells
    with pytest.raises(UserError, match=r"'gropo, noisy' matches no arm\. Did you mean 'grpo, noisy'"):
        select_cells(cells, ["gropo, noisy"])


def test_an_arm_may_have_any_name(tmp_path, capsys):
    """Brackets are markup in a table and a pattern after --only, and a folder's name has at most 255 characters."""
    names = ("grpo [a]", "[/b]", "β = 0", "x" * 300)
    arms = {name: {"train.max_steps": number} for number, name in enumerate(names, start=1)}
    grid = Grid(name="g", question="?", seeds=(0,), control=names[0], arms=arms)
    for name in names:
        assert grid.main(["--dry-run", "--out", str(tmp_path / "[c]"), "--only", name]) == 0
        shown = capsys.readouterr().out.replace("\n", "")
        assert name[:20] in shown and "[c]" in "".join(shown.split()), "a long path is wrapped"
    folders = [cell.folder for cell in grid.cells("nano")]
    assert [folder.partition("-seed0-")[0] for folder in folders] == ["grpo-a", "b", "0", "x" * 200]
    assert grid.main(["--out", str(tmp_path)], command=("-c", "")) == 0
    lone = Grid(name="g", question="?", seeds=(0,), control="β", arms={"β": {}})
    assert lone.cells("nano")[0].folder.startswith("arm-seed0-")


def test_two_arms_of_one_name_are_an_error():
    axes = {"first": {"a": {}, "a, b": {"train.max_steps": 3}}, "second": {"b, c": {}, "c": {"seed": 1}}}
    with pytest.raises(UserError, match="two arms are called 'a, b, c': rename a level or an arm"):
        make_grid(axes=axes).cells("nano")
    with pytest.raises(UserError, match="two arms are called 'grpo, clean'"):
        make_grid(arms={"grpo, clean": {"train.max_steps": 3}}).cells("nano")


def test_arms_are_compared_as_far_as_the_preset_has_them(tmp_path):
    def only_in_nano(levels):
        return {"train.max_steps": 3} if levels["preset"] == "nano" else None

    axes = {"kind": {"a": {}, "b": only_in_nano, "c": {"train.max_steps": 2}}}
    grid = Grid(name="g", question="?", axes=axes, seeds=(0,), control="a")
    assert grid.main(["--preset", "nano_sft", "--out", str(tmp_path)], command=("-c", "")) == 0
    assert json.loads((tmp_path / "grid.json").read_text())["comparisons"] == [["c", "a"]]


WITHOUT_KL = (
    "noise_robustness",
    "algorithm_ablation",
    "reward_ablation",
    "base_reasoning",
    "consistency",
    "hard_labels",
    "hard_verdicts",
)


@pytest.mark.parametrize("name", WITHOUT_KL)
def test_arms_have_no_kl_penalty_unless_their_name_says_so(name):
    """An algorithm's default of `beta` must not make an arm differ from the control; in DPO `beta` is no KL penalty."""
    grid = runpy.run_path(str(ROOT / "experiments" / f"{name}.py"))["GRID"]
    for cell in grid.cells("nano"):
        config = load(cell.preset, cell.overrides)
        if config.algorithm.name != "dpo" and "beta" not in cell.arm:
            assert build("algorithms", config.algorithm.name, **config.algorithm.fields).beta == 0, cell.arm


def test_a_bare_word_after_set_is_text(tmp_path, capsys):
    grid = make_grid(unseeded=("base",))
    assert grid.main(["--dry-run", "--out", str(tmp_path), "--set", "model=nano/loose"]) == 0
    assert "model=nano/loose" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nano/lose", "no embedded model 'nano/lose'. Did you mean 'nano/loose'?"),
        ("runs/larger", "model 'runs/larger': no such folder in "),
    ],
)
def test_a_model_that_should_be_here_and_is_not_is_one_line_before_any_run(tmp_path, capsys, model, message):
    grid = make_grid(unseeded=("base",))
    assert grid.main(["--out", str(tmp_path / "out"), "--set", f"model={model}"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--margin", "3"], "--margin requires --until decided"),
        (["--max-seeds", "4"], "--max-seeds requires --until decided"),
        (["--slurm", "partition=gpu"], "--slurm requires --launcher slurm"),
        (["--until", "decided", "--margin", "-3"], "--margin must be points between 0 and 100, such as 3, not -3"),
        (["--until", "decided", "--margin", "0"], "--margin must be points between 0 and 100, such as 3, not 0"),
        (["--until", "decided", "--max-seeds", "1"], "--max-seeds must be 2 or more, not 1"),
        (["--until", "decided", "--only", "base"], "--only and --until decided exclude each other"),
    ],
)
def test_an_argument_without_an_effect_is_refused_before_any_run(tmp_path, capsys, arguments, message):
    assert make_grid(unseeded=("base",)).main(["--out", str(tmp_path), *arguments], command=("-c", "")) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) == 1 and not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs", "0"], "--jobs must be 1 or more, not 0"),
        (["--accelerate", "missing.yaml"], "missing.yaml: not a config of accelerate: [Errno 2] No such file"),
        (["--accelerate", "list.yaml"], "list.yaml: not a config of accelerate: 'list' object has no attribute"),
        (["--accelerate", "damaged.yaml"], "damaged.yaml: not a config of accelerate: while parsing"),
        (["--until", "decided"], "--until decided: this grid compares nothing, as it has one arm only"),
    ],
)
def test_a_grid_that_cannot_start_is_one_line_and_replaces_no_plan(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("list.yaml").write_text("- 1\n")
    Path("damaged.yaml").write_text("a: [1\nb: }")
    grid = Grid(name="g", question="?", seeds=(0,), control="a", arms={"a": {}})
    assert grid.main(["--out", "out", *arguments], command=("-c", "")) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) == 1 and not Path("out").exists()


def test_an_untrained_arm_with_seeds_is_refused_before_any_run(tmp_path, capsys):
    assert make_grid(unseeded=()).main(["--out", str(tmp_path)], command=("-c", "")) == 2
    words = "arm 'base' takes no training step, so that it depends on no seed: add it to unseeded="
    assert words in capsys.readouterr().err and not [*tmp_path.iterdir()]


def test_another_grid_does_not_replace_the_plan_in_a_folder(tmp_path, capsys):
    run = {"argv": ["--out", str(tmp_path)], "command": ("-c", "")}
    grid = make_grid(unseeded=("base",))
    grid.main(**run)
    plan = (tmp_path / "grid.json").read_text()
    assert replace(grid, name="another").main(**run) == 2
    assert "which 'another' must not replace: give another --out" in capsys.readouterr().err
    assert (tmp_path / "grid.json").read_text() == plan
