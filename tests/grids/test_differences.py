"""Settings in which an arm differs from its control: listed before a grid runs, and refused or warned of if unnamed."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from rlvid.__main__ import main
from rlvid.config import load
from rlvid.errors import UserError
from rlvid.grids import Grid
from rlvid.grids.cell import other_runs_note
from rlvid.grids.differences import find_differences, report_differences
from rlvid.grids.plan import write_grid_file
from rlvid.registry import module_file
from rlvid.study.report import build_report
from rlvid.study.study import read_study

EXPERIMENTS_README = module_file("experiments").parent / "README.md"
EXPERIMENTS = sorted(path for path in module_file("experiments").parent.glob("*.py") if "GRID = " in path.read_text())
MY_GRPO = """
from dataclasses import dataclass
from algorithms.grpo import GRPO

@dataclass(frozen=True)
class MyGRPO(GRPO):
    horizon: int = 64%s
"""


def differences(arms, **options):
    grid = Grid("x", "?", (0,), next(iter(arms)), arms=arms, **options)
    return find_differences(grid.cells("nano"), grid.pairs(arms), grid.control)


def unnamed(rows):
    return [(row.arm, row.other, row.key, row.value, row.other_value) for row in rows if not row.named]


def test_a_setting_that_an_algorithm_inherits_is_unnamed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my_grpo.py").write_text(MY_GRPO % "")
    arms = {"grpo": {}, "mine": {"algorithm": "./my_grpo.py"}}
    assert unnamed(differences(arms)) == [("mine", "grpo", "algorithm.beta", "0.04", "0.0")]
    named = {**arms, "mine": {"algorithm": "./my_grpo.py", "algorithm.beta": 0.04}}
    assert unnamed(differences(named)) == []
    Path("my_grpo.py").write_text(MY_GRPO % "\n    beta: float = 0.04")
    assert unnamed(differences(arms)) == [], "what a class declares itself is what it is named for"


def test_the_key_of_a_plugin_is_shown_as_it_must_be_typed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def f(prompt, completion):\n    return 0.5\n")
    arms = {"grpo": {}, "mine": {'rewards."./mine.py:f"': 0.5}}
    rows = differences(arms)
    [key] = [row.key for row in rows if row.key.endswith(".weight")]
    assert key == 'rewards."./mine.py:f".weight' and unnamed(rows) == []
    weights = {reward.name: reward.weight for reward in load("nano", [f"{key}=0.25"]).rewards}
    assert weights["./mine.py:f"] == 0.25, "the command line takes it"
    assert Grid("x", "?", (0,), "grpo", arms=arms).main(["--dry-run"]) == 0
    assert 'rewards."./mine.py:f".weight 0.5' in capsys.readouterr().out


def test_what_settings_or_the_command_line_set_reaches_an_arm_that_names_an_algorithm():
    arms = {"grpo": {}, "qae": {"algorithm": "qae"}}
    assert unnamed(differences(arms)), "the beta of qae is not that of the preset"
    by_settings = Grid("x", "?", (0,), "grpo", arms=arms, settings={"algorithm.beta": 0.0})
    by_command_line = Grid("x", "?", (0,), "grpo", arms=arms)
    for grid, extra in ((by_settings, ()), (by_command_line, ("algorithm.beta=0.0",))):
        cells = grid.cells("nano", extra)
        assert [load(cell.preset, cell.overrides).algorithm.fields["beta"] for cell in cells] == [0.0, 0.0]
        assert unnamed(find_differences(cells, grid.pairs(arms), "grpo")) == []


def test_a_field_of_an_algorithm_that_an_arm_replaces_is_not_named():
    settings = {"algorithm": {"name": "grpo", "beta": 0.0}}
    arms = {"rloo": {"algorithm": "rloo"}, "qae": {"algorithm": "qae"}}
    assert ("qae", "rloo", "algorithm.beta", "0.04", "0.0") in unnamed(differences(arms, settings=settings))


def test_the_algorithm_of_the_preset_named_again_keeps_the_presets_fields():
    rows = differences({"grpo": {}, "wide": {"algorithm": "grpo", "algorithm.epsilon": 0.3}})
    assert [(row.key, row.named) for row in rows] == [("algorithm.epsilon", True)]


def test_what_does_not_act_on_an_untrained_arm_is_not_listed():
    rows = differences({"base": {"train.max_steps": 0}, "mc": {"algorithm": "grpo"}})
    assert [row.key for row in rows] == ["train.max_steps"]


def test_a_preset_names_its_own_settings():
    rows = differences({"grpo": {}, "sft": {"preset": "{preset}_sft"}})
    assert unnamed(rows) == [] and "train.prompts_per_step" in [row.key for row in rows]


def test_arms_are_compared_as_planned():
    arms = {"base": {"train.max_steps": 0}, "a": {"seed": 3}, "b": {"train.temperature": 0.5}}
    rows = differences(arms, comparisons=(("b", "a"),))
    assert [(row.arm, row.other, row.key) for row in rows] == [("b", "a", "train.temperature")]


def test_strict_refuses_what_is_unnamed_and_otherwise_it_is_a_warning():
    rows = differences({"grpo": {}, "qae": {"algorithm": "qae"}})
    message = r"'qae' differs from 'grpo' in algorithm\.beta = 0\.04 \(there 0\.0\)"
    with pytest.raises(UserError, match=message):
        list(report_differences(rows, strict=True))
    *_, warning = report_differences(rows, strict=False)
    assert "warning" in str(warning) and "--strict" in str(warning)
    assert len(list(report_differences([row for row in rows if row.named], strict=True))) == 1


@pytest.mark.parametrize("script", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_shipped_experiment_is_strict(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["grid", str(script), "--dry-run", "--strict"]) == 0
    assert "not named" not in capsys.readouterr().out


@pytest.mark.parametrize(("name", "arm"), [("my_experiment", "+ consistency"), ("is_it_read", "+ oracle")])
def test_the_scripts_in_the_readme_of_the_experiments_are_strict(tmp_path, monkeypatch, capsys, name, arm):
    blocks = re.findall(r"^```\n(.*?)^```", EXPERIMENTS_README.read_text(), re.M | re.S)
    [script] = [block for block in blocks if f'name="{name}"' in block]
    (tmp_path / f"{name}.py").write_text(script)
    monkeypatch.chdir(tmp_path)
    assert main(["grid", f"./{name}.py", "--dry-run", "--strict"]) == 0
    assert arm in capsys.readouterr().out


def test_the_readme_of_the_experiments_describes_every_field_of_a_grid():
    section = EXPERIMENTS_README.read_text().split("\n## Write an experiment\n")[1].split("\n## ")[0]
    names = [name for cell in re.findall(r"^\| (`.*?) \|", section, re.M) for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(names) == sorted(field.name for field in fields(Grid))


def test_a_shipped_experiment_runs_outside_of_a_clone_and_a_missing_one_says_where_they_are(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["grid", "experiments/base_reasoning.py", "--dry-run"]) == 0
    assert main(["grid", "experiments/none.py", "--dry-run"]) == 2
    folder = module_file("experiments").parent
    message = f"no experiment script 'experiments/none.py' in {tmp_path}; shipped ones are in {folder}\n"
    assert capsys.readouterr().err.replace("rlvid: ", "", 1) == message


def test_the_report_lists_the_differences_and_the_plugins_that_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my_grpo.py").write_text(MY_GRPO % "")
    grid = Grid("x", "Which?", (0,), "grpo", arms={"grpo": {}, "mine": {"algorithm": "./my_grpo.py"}})
    cells, out = grid.cells("nano"), tmp_path / "runs"
    write_grid_file(grid, out, cells, tuning="")
    assert "differences" in json.loads((out / "grid.json").read_text())
    run = out / cells[1].folder
    run.mkdir()
    (run / "config.toml").write_text('[plugins]\n"my_grpo.py" = "0123456789ab"\n')
    report = build_report(read_study(out))
    assert unnamed(report.settings) == [("mine", "grpo", "algorithm.beta", "0.04", "0.0")]
    assert [(plugin.file, plugin.of_runs) for plugin in report.changed_plugins] == [("my_grpo.py", "0123456789ab")]
    (_, parts), *_ = [section for section in report.sections(100) if "settings" in section[0]]
    assert len(parts) == 3 and "my_grpo.py has changed" in str(parts[2])


def test_a_changed_plugin_file_is_another_cell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grid = Grid("x", "?", (0,), "mine", arms={"mine": {"algorithm": "./my_grpo.py"}, "grpo": {}})
    Path("my_grpo.py").write_text(MY_GRPO % "")
    mine, grpo = grid.cells("nano")
    write_grid_file(grid, tmp_path / "runs", [mine, grpo], tuning="")
    assert other_runs_note([mine, grpo], tmp_path / "runs") == ""
    Path("my_grpo.py").write_text(MY_GRPO % "\n    beta: float = 1.0")
    mine_now, grpo_now = grid.cells("nano")
    assert mine.id != mine_now.id and mine.folder != mine_now.folder and grpo == grpo_now
    assert "other runs of mine:" in other_runs_note([mine_now, grpo_now], tmp_path / "runs")
