"""Tuning: equal trials for every arm, on the level dev and nothing else; and grids that use what was chosen."""

import json
import runpy
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from rlvid import api
from rlvid.config import load
from rlvid.data import kitchen
from rlvid.errors import UserError
from rlvid.grids.grid import Grid
from rlvid.grids.tune import plan_trials, read_result, tune
from rlvid.grids.tuned import read_tuned
from rlvid.study.design import design_rows
from rlvid.study.study import read_study
from rlvid.utils.files import write_jsonl, write_text
from tests.helpers.runs import TINY

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RATES = {"train.learning_rate": (0.1, 0.3)}
ARMS = {
    "base": {"train.max_steps": 0},
    "sft": {"algorithm": "sft"},
    "grpo": {},
    "noisy": {"noise.kind": "symmetric", "noise.rate": 0.3},
}
# Stands in for training. Of four questions, SFT is right on one more at 0.3, and GRPO on as many at both rates; above 1
# the loss is not finite.
TRAIN = """
import json, os, signal, sys
from pathlib import Path
from rlvid.config import load
from rlvid.utils.files import append_jsonl, write_text

*words, _, out, _ = sys.argv[1:]
config, out = load(words[0], words[1:]), Path(out)
append_jsonl(out.parent / "starts.jsonl", {"folder": out.name})
append_jsonl(out / "metrics.jsonl", {"step": 1})
rate = config.train.learning_rate
right = 1 + (rate > 0.2) if config.algorithm.name == "sft" else 3
(out / "eval").mkdir(exist_ok=True)
for level in config.eval.splits if rate <= 1 else ():
    for i in range(4):
        append_jsonl(out / "eval" / f"{level}.jsonl", {"id": i, "correct": i < right})
state = "failed" if rate > 1 else "done"
status = {"state": state, "id": config.id, "phase": "", "step": 1, "steps": 1, "updated": "2026-01-02T03:04:05"}
write_text(out / "status.json", json.dumps(status | {"message": "loss not finite" * (rate > 1)}))
raise SystemExit(2 * (rate > 1))
"""


def make_grid(**fields):
    """A grid of four arms, of which "noisy" takes the choice of "grpo"; `fields` replace its fields."""
    defaults = {"arms": ARMS, "control": "base", "seeds": (0, 1), "unseeded": ("base",)}
    return Grid(name="g", question="?", **defaults | {"tune": RATES, "tune_as": {"noisy": "grpo"}} | fields)


@pytest.fixture
def run_tune(tmp_path):
    """Tune a grid with the script that stands in for training; returns the exit code and the file that was written."""
    (tmp_path / "train.py").write_text(TRAIN)
    command = (str(tmp_path / "train.py"),)

    def run(grid, **options):
        code = tune(grid, tmp_path / "g.py", out=tmp_path / "runs", command=command, **options)
        return code, tmp_path / "tuned" / f"g-{Path(options.get('preset') or 'nano').stem}.toml"

    return run


def test_every_arm_that_trains_has_as_many_trials_with_a_seed_of_their_own():
    grid = make_grid(tune=RATES | {"train.max_grad_norm": (1.0, 2.0, 3.0)})
    plan, trials = plan_trials(grid, "nano")
    assert [trial.arm for trial in trials] == ["sft"] * 6 + ["grpo"] * 6
    assert {cell.seed for cell in (trial.cell for trial in trials)} == {1000}
    assert len({trial.cell.id for trial in trials}) == 12 and len(plan.arms) == 12
    tried = [load(trial.cell.preset, trial.cell.overrides).train for trial in trials if trial.arm == "sft"]
    assert [(train.learning_rate, train.max_grad_norm) for train in tried] == [
        (rate, norm) for rate in (0.1, 0.3) for norm in (1.0, 2.0, 3.0)
    ]


def test_a_tuned_field_of_an_algorithm_reaches_the_arm_that_names_the_algorithm(run_tune, tmp_path):
    arms = {"base": {"train.max_steps": 0}, "dr_grpo": {"algorithm": "dr_grpo"}}
    grid = make_grid(arms=arms, tune={"algorithm.beta": (0.02, 0.03)}, tune_as={})
    _, path = run_tune(grid)
    chosen = read_tuned(path).settings("dr_grpo")
    cell = replace(grid, tuned=path).cells("nano")[-1]
    assert load(cell.preset, cell.overrides).algorithm.fields["beta"] == chosen["algorithm.beta"] == 0.02


def test_trials_are_evaluated_on_all_of_dev_and_nothing_else_whatever_is_set():
    wide = {"eval.splits": ["L1", "L3"], "eval.transfer": ["kitchen_long"], "eval.limit": 3}
    grid = make_grid(settings=wide, arms=ARMS | {"grpo": wide})
    overrides = ['eval.splits=["L2"]', 'eval.transfer=["kitchen_long"]', "eval.limit=9"]
    for trial in plan_trials(grid, "nano", overrides)[1]:
        config = load(trial.cell.preset, trial.cell.overrides).eval
        assert config.splits == ("dev",) and config.transfer == () and config.limit == 0, trial.cell.arm


def test_no_test_level_is_read(tmp_path, capsys):
    """The benchmark has no file of a test level: a trial that read one would fail."""
    data = tmp_path / "data"
    kitchen.write(data, counts={"train": 12, "L1": 1, "L2": 1, "L3": 1, "dev": 3})
    for path in [*data.rglob("*L1*"), *data.rglob("*L2*"), *data.rglob("*L3*")]:
        path.unlink()
    assert sorted(path.name for path in (data / "annotations").iterdir()) == [
        "training_6k.jsonl",
        "training_with_cot_6k.jsonl",
        "validation_dev.jsonl",
    ]
    script = tmp_path / "small.py"
    script.write_text("""
from rlvid.grids import Grid
GRID = Grid(name="small", question="?", seeds=(0,), control="sft", arms={"sft": {"algorithm": "sft"}},
            tune={"train.learning_rate": (0.1,)})
""")
    settings = [*TINY[:-2], f'data="{data}"']  # without those of the evaluation
    with pytest.raises(UserError, match=r"--set eval.limit=2 has no effect: .* leave eval.limit out"):
        api.tune(script, "nano", 1, tmp_path / "runs", TINY[-1:])
    with pytest.raises(UserError, match=r"--set eval=\{limit=2\} has no effect: .* leave eval.limit out"):
        api.tune(script, "nano", 1, tmp_path / "runs", ["eval={limit=2}"])
    assert api.tune(script, "nano", 1, tmp_path / "runs", settings) == 0
    written = [path.name for path in (tmp_path / "runs").rglob("*/eval/**/*.jsonl")]
    assert written == ["dev.jsonl"]
    table = tomllib.loads((tmp_path / "tuned" / "small-nano.toml").read_text())
    assert table["questions"] == 3 and table["command"].startswith(f"rlvid tune {script} --set data=kitchen/small")
    assert "chosen" in capsys.readouterr().out


def test_the_best_trial_is_chosen_and_everything_tried_is_written(run_tune, capsys):
    code, path = run_tune(make_grid())
    assert code == 0
    table = tomllib.loads(path.read_text())
    arms = table.pop("arms")
    assert table == {
        "experiment": "g",
        "preset": "nano",
        "level": "dev",
        "questions": 4,
        "seed": 1000,
        "trials": 2,
        "date": "2026-01-02",
        "command": f"rlvid tune {path.parent.parent / 'g.py'}",
    }
    assert arms["sft"]["settings"] == {"train.learning_rate": 0.3}
    assert [row["accuracy"] for row in arms["sft"]["tried"]] == [0.25, 0.5]
    assert arms["sft"]["tried"][1]["interval"] == [0.15, 0.85], "Wilson's interval of 2 of 4"
    assert arms["grpo"]["settings"] == {"train.learning_rate": 0.1}, "the first of equal ones"
    assert arms["noisy"] == {"settings": {"train.learning_rate": 0.1}, "same_as": "grpo"} and "base" not in arms
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["sft", "train.learning_rate=0.3", "50.0%", "15.0%", "to", "85.0%", "chosen"] in lines
    assert ["grpo", "train.learning_rate=0.3", "75.0%", "30.1%", "to", "95.4%"] in lines


def test_the_choice_is_written_where_the_grid_reads_it(run_tune, tmp_path):
    grid = make_grid(tuned=tmp_path / "chosen-{preset}.toml")
    assert run_tune(grid)[0] == 0
    assert grid.read_tuned("nano").path == tmp_path / "chosen-nano.toml" and not (tmp_path / "tuned").exists()


def test_a_tuning_that_cannot_start_writes_nothing_and_one_override_may_be_a_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("g.py").write_text(
        "from rlvid.grids import Grid\n"
        'GRID = Grid("g", "?", (0,), "a", arms={"a": {}}, tune={"train.learning_rate": (0.1, 0.2)})\n'
    )
    with pytest.raises(UserError, match="--jobs must be 1 or more, not 0"):
        api.tune("g.py", jobs=0, overrides="train.max_steps=3")
    assert not Path("runs").exists()
    assert api.grid("g.py", "--dry-run") == 0


def test_finished_trials_are_not_run_again(run_tune, tmp_path):
    run_tune(make_grid())
    status = next((tmp_path / "runs").glob("sft-*0.3*/status.json"))
    status.write_text(json.dumps(json.loads(status.read_text()) | {"state": "running"}))
    shutil.rmtree(status.parent / "eval")
    assert run_tune(make_grid())[0] == 0
    started = [json.loads(line)["folder"] for line in (tmp_path / "runs" / "starts.jsonl").read_text().splitlines()]
    assert len(started) == 5 and started[-1] == status.parent.name


def test_a_finished_trial_without_its_answers_is_one_line(run_tune, tmp_path):
    run_tune(make_grid())
    lost = sorted((tmp_path / "runs").glob("*/eval/dev.jsonl"))[0]
    lost.write_text("")
    with pytest.raises(UserError, match=r"eval/dev\.jsonl has no answers: remove the folder") as error:
        run_tune(make_grid())
    assert str(error.value).startswith(str(lost.parents[1]))


def test_a_diverged_trial_counts_as_tried_and_is_not_chosen(run_tune):
    code, path = run_tune(make_grid(tune={"train.learning_rate": (5.0, 0.1)}))
    sft = tomllib.loads(path.read_text())["arms"]["sft"]
    assert code == 0 and sft["settings"] == {"train.learning_rate": 0.1}
    assert sft["tried"][0] == {"settings": {"train.learning_rate": 5.0}, "failed": "loss not finite"}
    with pytest.raises(UserError, match="arm 'sft': all trials failed"):
        run_tune(make_grid(tune={"train.learning_rate": (5.0, 6.0)}))


def test_nothing_is_chosen_while_a_trial_is_open(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit(2)")
    assert tune(make_grid(), tmp_path / "g.py", out=tmp_path / "runs", command=(str(broken),)) == 1
    assert not (tmp_path / "tuned").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tune": {}}, "names no settings to try"),
        ({"tune_arms": {"sft": {"train.learning_rate": (1.0,)}}}, "needs as many trials"),
        ({"tune_arms": {"stf": RATES}}, "Did you mean 'sft'?"),
        ({"tune_as": {"noisy": "gropo"}}, "Did you mean 'grpo'?"),
        ({"tune_as": {"noisy": "grpo", "grpo": "sft"}}, "names an arm that has no trials of its own"),
        ({"tune": {"eval.splits": (["L1"], ["L2"])}}, "eval.splits cannot be tuned"),
        ({"tune": {"eval": ({"limit": 2}, {"limit": 3})}}, "eval cannot be tuned"),
        ({"arms": ARMS | {"grpo": {"train.learning_rate": 0.1}}}, "arm 'grpo' sets train.learning_rate itself"),
        ({"tune_seed": 1}, "tune_seed 1 is, or may become, a seed of the grid"),
        ({"tune_seed": 5}, "tune_seed 5 is, or may become, a seed of the grid"),
        ({"arms": {"base": ARMS["base"]}, "tune_as": {}}, "no arm trains"),
    ],
)
def test_a_grid_that_cannot_be_tuned_fairly_is_an_error(fields, message):
    with pytest.raises(UserError) as error:
        plan_trials(make_grid(**fields), "nano")
    assert message in str(error.value)


def test_an_arm_may_name_candidates_of_its_own():
    grid = make_grid(tune_arms={"sft": {"train.learning_rate": (0.5, 0.6)}})
    tried = [(trial.arm, *trial.settings.values()) for trial in plan_trials(grid, "nano")[1]]
    assert tried == [("sft", 0.5), ("sft", 0.6), ("grpo", 0.1), ("grpo", 0.3)]


def test_a_tuned_grid_applies_the_choice_below_the_command_line_and_the_arm(run_tune):
    _, path = run_tune(make_grid())
    pattern = path.with_name("g-{preset}.toml")
    grid = make_grid(tuned=pattern, settings={"train.max_steps": 5, "train.learning_rate": 9.0, "eval.limit": 7})

    def rates(preset="nano", extra=(), grid=grid):
        cells = [cell for cell in grid.cells(preset, extra) if cell.seed == 0]
        configs = {cell.arm: load(cell.preset, cell.overrides) for cell in cells}
        assert {config.eval.limit for config in configs.values()} == {7}, "settings reach every arm"
        assert {config.train.max_steps for config in configs.values()} == {0, 5}, "an arm's own settings win"
        return [configs[arm].train.learning_rate for arm in ("sft", "grpo", "noisy")]

    assert rates() == [0.3, 0.1, 0.1]
    assert rates(extra=["train.learning_rate=0.7"]) == [0.7] * 3
    assert rates(preset="nano_sft") == [9.0] * 3, "the choice holds for the preset that it was made for"
    assert "not tuned for preset nano_sft" in grid.describe_tuning("nano_sft")
    with pytest.raises(UserError, match="has no settings for arm 'ppo': run rlvid tune again"):
        make_grid(tuned=pattern, arms=ARMS | {"ppo": {"algorithm": "ppo"}}).cells("nano")
    with pytest.raises(UserError, match="run rlvid tune on this script first"):
        make_grid(tuned=path.with_name("none.toml")).cells("nano")
    assert make_grid().describe_tuning("nano") == ""


def test_the_dry_run_and_the_report_say_how_arms_were_tuned(run_tune, tmp_path, monkeypatch, capsys):
    _, path = run_tune(make_grid())
    capsys.readouterr()
    monkeypatch.setenv("COLUMNS", "400")
    grid = make_grid(tuned=path)
    said = (
        "train.learning_rate chosen for each arm on dev (4 questions, 2 trials per arm, seed 1000, 2026-01-02; "
        "g-nano.toml); noisy: as grpo"
    )
    out = tmp_path / "grid"
    for override in ("train.learning_rate=1", "train={learning_rate=1}"):
        assert grid.main(["--dry-run", "--out", str(out), "--set", override]) == 0
        assert f"settings: {said}; not applied, as --set names them: train.learning_rate" in capsys.readouterr().out
    grid.main(["--out", str(out)], command=(str(tmp_path / "train.py"),))
    rows = {row.name: row.value for row in design_rows(read_study(out))}
    assert rows["settings"] == said


def test_a_damaged_file_is_an_error(tmp_path):
    path = tmp_path / "g-nano.toml"
    path.write_text('experiment = "g"\n[arms.sft]\n')
    with pytest.raises(UserError, match="is not a file that `rlvid tune` has written"):
        read_tuned(path)


def test_the_shipped_choices_are_those_of_their_scripts():
    for path in (EXPERIMENTS / "tuned").glob("*.toml"):
        table = tomllib.loads(path.read_text())
        grid = runpy.run_path(str(EXPERIMENTS / f"{table['experiment']}.py"))["GRID"]
        assert table["level"] == "dev" and table["seed"] not in grid.seeds
        assert path.name == f"{table['experiment']}-{table['preset']}.toml"
        tried = {name: arm["tried"] for name, arm in table["arms"].items() if "tried" in arm}
        assert [(name, row["settings"]) for name, rows in tried.items() for row in rows] == [
            (trial.arm, trial.settings) for trial in plan_trials(grid, table["preset"])[1]
        ]
        for name, rows in tried.items():
            best = max(rows, key=lambda row: row.get("accuracy", -1))
            assert len(rows) == table["trials"] and table["arms"][name]["settings"] == best["settings"]
        assert {name: arm["same_as"] for name, arm in table["arms"].items() if "same_as" in arm} == grid.tune_as


def test_trials_of_arms_with_equal_configs_are_one_run(run_tune, tmp_path):
    code, path = run_tune(make_grid(arms=ARMS | {"same as grpo": ARMS["grpo"]}))
    arms = tomllib.loads(path.read_text())["arms"]
    assert code == 0 and arms["same as grpo"] == arms["grpo"]
    assert len((tmp_path / "runs" / "starts.jsonl").read_text().splitlines()) == 4, "two arms with two trials"


def test_a_full_disk_is_no_failed_trial(tmp_path):
    _, [trial, *_] = plan_trials(make_grid(), "nano")
    folder, status = tmp_path / trial.cell.folder, {"state": "failed", "id": trial.cell.id, "updated": "2026-01-02"}
    for message, failure in (
        ("OSError: [Errno 28] No space left on device", None),
        ("step 9: loss not finite; the", "step 9: loss not finite; the"),
    ):
        write_text(folder / "status.json", json.dumps(status | {"message": message}))
        write_jsonl(folder / "metrics.jsonl", [{"step": 1, "reward": 0.5}])
        result = read_result(trial, tmp_path)
        assert (result and result.failure) == failure
