"""A grid finds its runs after a change without effect, and says which finished runs another change leaves unused."""

import json

import pytest

from rlvid.config import load
from rlvid.errors import UserError
from rlvid.grids.earlier_runs import take_up_runs, unused_runs_note
from rlvid.grids.grid import Grid
from rlvid.grids.tune import tune
from rlvid.study.study import read_study
from rlvid.utils.files import read_json, read_jsonl
from tests.helpers.reports import write_run

NOTHING = ("-c", "")  # what Python runs for a cell: such a run ends at once and writes nothing


def make_grid(**fields):
    """A grid of two arms with two seeds each; `fields` replace its fields."""
    arms = {"a": {}, "b": {"train.top_p": 0.5}}
    return Grid(name="g", question="Which is better?", **{"arms": arms, "control": "a", "seeds": (0, 1)} | fields)


def finish(grid, out, *extra):
    """Write finished runs of all cells of a grid."""
    for cell in grid.cells("nano", extra):
        write_run(out / cell.folder, *cell.overrides, right=("10",), rewards=(0.5,))


def exact(folder, *overrides):
    """Give a run the id that an earlier version gave it, with the neutral keys; returns the new path."""
    id = load("nano", overrides).exact_id
    status = read_json(folder / "status.json") | {"id": id}
    (folder / "status.json").write_text(json.dumps(status))
    return folder.rename(folder.with_name(f"{folder.name[:-8]}{id[:8]}"))


def test_a_grid_with_other_settings_without_effect_runs_nothing_again(start_grid, grid_folder):
    _, err = start_grid("--jobs", "4").communicate(timeout=240)
    assert "9 of 9 runs done" in err
    again = start_grid("--jobs", "4", "--set", "train.save_steps=7", "judge.timeout=5", "video.cache_gb=1.0")
    _, err = again.communicate(timeout=240)
    assert again.returncode == 0 and "9 of 9 runs done" in err and "not used" not in err
    assert len(read_jsonl(grid_folder / "starts.jsonl")) == 9
    assert len([*grid_folder.glob("*/status.json")]) == 9


def test_another_setting_is_named_before_the_runs_that_it_makes_anew(start_grid, tmp_path, capsys):
    grid = make_grid()
    finish(grid, tmp_path)
    changed = ["--out", str(tmp_path), "--set", "train.learning_rate=0.5", "train.save_steps=3"]
    assert grid.main(changed, command=NOTHING) == 0
    err = capsys.readouterr().err.splitlines()
    told = next(line for line in err if "not used" in line)
    assert (
        "4 finished runs of 'a', 'b' with other settings (train.learning_rate is 0.5, there " in told
        and "save_steps" not in told
    )
    assert err.index(told) < next(i for i, line in enumerate(err) if "runs done" in line)
    assert grid.main([*changed, "--dry-run", "--only", "b"]) == 0
    assert "2 finished runs of 'b' with other settings (train.learning_rate is 0.5, there " in capsys.readouterr().out
    assert grid.main(["--out", str(tmp_path)], command=NOTHING) == 0
    assert "not used" not in capsys.readouterr().err, "nothing is made anew"


def test_runs_with_the_ids_of_an_earlier_version_are_found_and_reported(tmp_path, capsys):
    grid, old = make_grid(), ("train.save_steps=30",)
    finish(grid, tmp_path, *old)
    cells = grid.cells("nano", old)
    folders = [exact(tmp_path / cell.folder, *cell.overrides) for cell in cells]
    assert grid.main(["--out", str(tmp_path), "--set", "train.save_steps=7"], command=NOTHING) == 0
    assert capsys.readouterr().err.count("skipped: ") == 4
    assert [cell["folder"] for cell in read_json(tmp_path / "grid.json")["cells"]] == [path.name for path in folders]
    assert all(run.done for run in read_study(tmp_path).runs)
    assert grid.main(["--out", str(tmp_path), "--dry-run"]) == 0
    assert capsys.readouterr().out.count("2 of 2") == 2


def test_of_several_folders_a_finished_run_is_taken_and_else_the_longest(tmp_path):
    [cell, _] = make_grid(arms={"a": {}}).cells("nano")
    short, long = ("train.save_steps=20",), ("train.save_steps=30",)
    for settings, step in ((short, 20), (long, 30)):
        overrides = (*settings, *cell.overrides)
        write_run(tmp_path / cell.folder, *overrides, rewards=(0.5,), state="interrupted", step=step)
        exact(tmp_path / cell.folder, *overrides)
    [taken] = take_up_runs([cell], tmp_path)
    assert taken.id == load("nano", [*long, *cell.overrides]).exact_id
    write_run(tmp_path / cell.folder, *cell.overrides, rewards=(0.5,))
    assert take_up_runs([cell], tmp_path) == [cell]
    assert unused_runs_note([cell], tmp_path) == ""


def test_a_start_that_failed_under_an_earlier_id_claims_no_cell(tmp_path):
    [cell, _] = make_grid(arms={"a": {}}).cells("nano")
    write_run(tmp_path / cell.folder, *cell.overrides, state="failed")
    exact(tmp_path / cell.folder, *cell.overrides)
    assert take_up_runs([cell], tmp_path) == [cell]


def test_a_changed_file_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def mine(groups): return 1.0")
    grid = make_grid(arms={"a": {}, "b": {'rewards."./mine.py"': 1.0}})
    finish(grid, tmp_path / "out")
    (tmp_path / "mine.py").write_text("def mine(groups): return 2.0")
    assert grid.main(["--out", "out", "--dry-run"]) == 0
    assert "2 finished runs of 'b' with other settings (mine.py has changed)" in capsys.readouterr().out.replace(
        "\n", ""
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"judge.url": "http://b:1/v1"}, r"only in judge\.url, which .* another judge needs another judge\.model"),
        ({"train.save_steps": 3}, r"'a' and 'b' differ only in train\.save_steps, which changes no result"),
    ],
)
def test_arms_that_differ_in_nothing_that_matters_are_refused(tmp_path, capsys, settings, message):
    assert make_grid(arms={"a": {}, "b": settings}).main(["--dry-run", "--out", str(tmp_path)]) == 2
    with pytest.raises(UserError, match=message):
        raise UserError(capsys.readouterr().err)


def test_trials_are_found_after_a_change_without_effect(tmp_path, capsys):
    script = tmp_path / "g.py"
    grid = make_grid(tune={"train.learning_rate": (0.1, 0.2)})
    assert tune(grid, script, out=tmp_path / "out", command=NOTHING) == 1
    capsys.readouterr()
    for cell in read_json(tmp_path / "out/grid.json")["cells"]:
        folder = tmp_path / "out" / cell["folder"]
        write_run(folder, *cell["overrides"], rewards=(0.5,), right=("10",))
        (folder / "eval/L1.jsonl").rename(folder / "eval/dev.jsonl")
        exact(folder, *cell["overrides"])
    assert tune(grid, script, out=tmp_path / "out", overrides=["train.save_steps=3"], command=("-c", "raise 1")) == 0
    assert "written: " in capsys.readouterr().out
    assert tune(grid, script, out=tmp_path / "out", overrides=["train.max_grad_norm=3.0"], command=NOTHING) == 1
    assert "4 finished runs of " in capsys.readouterr().err
