"""What a run keeps of its config and plug-ins, so that it can be evaluated, exported and told from another run."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest

from rlvid import api
from rlvid.config import load
from rlvid.errors import UserError
from rlvid.trainer.alarms import unpaid_rewards
from rlvid.utils.files import read_json, read_jsonl
from tests.helpers.runs import TINY

pytestmark = pytest.mark.usefixtures("quick_runs")

REWARD = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Mine:
    alpha: float = 0.5

    def __call__(self, groups):
        return [[self.alpha * len(completion.text) / 100 for completion in group] for group in groups]
"""
DIVERSITY = """
def diversity(groups):
    return [[len({c.text for c in group}) / len(group) + len(group) for c in group] for group in groups]
"""
MINE = 'rewards."./mine.py"=0.1'


@pytest.fixture(scope="module")
def run(kitchen, tmp_path_factory):
    """A run of one step with a plug-in and with data by a relative path, started in its own folder."""
    home = tmp_path_factory.mktemp("home")
    (home / "mine.py").write_text(REWARD)
    shutil.copytree(kitchen / "annotations", home / "data/annotations")
    for media in ("videos", "images"):
        (home / "data" / media).mkdir()
        shutil.copytree(kitchen / media, home / "data" / media, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        api.train("nano", [*TINY, MINE, "data=data", "eval.transfer=[]", "train.max_completion_length=24"], "run")
    return home / "run"


def test_a_run_holds_all_fields_and_a_copy_of_each_plugin_file(run):
    saved = tomllib.loads((run / "config.toml").read_text())
    assert saved["rewards"]["./mine.py"]["alpha"] == 0.5 and saved["algorithm"]["epsilon"] == 0.2
    (copy,) = (run / "plugins").iterdir()
    assert copy.name == f"mine-{saved['plugins']['mine.py']}.py" and copy.read_text() == REWARD
    assert read_json(run / "environment.json")["folder"] == str(run.parent)


def test_a_run_is_evaluated_from_any_folder_with_its_plugin_as_it_was(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(REWARD.replace("0.5", "5.0"))
    api.evaluate(run, out="again")
    assert read_jsonl(Path("again/eval/L1.jsonl")) == read_jsonl(run / "eval/L1.jsonl")
    assert tomllib.loads(Path("again/config.toml").read_text())["data"] == str(run.parent / "data")


def test_an_exported_model_is_evaluated_with_the_settings_of_its_run(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    api.export(run, "exported")
    saved = load("exported/rlvid.toml")
    assert saved.video.resized_height == 56 and saved.train.max_completion_length == 24
    api.evaluate("exported", out="again")
    again, inside = (read_jsonl(folder / "eval/L1.jsonl") for folder in (Path("again"), run))
    assert [row["completion"] for row in again] == [row["completion"] for row in inside]


def test_a_model_without_settings_is_said_to_be_measured_with_the_papers(kitchen, tmp_path, monkeypatch, capsys):
    from rlvid.api.evaluated import evaluation_config

    (tmp_path / "model").mkdir()
    evaluation_config(tmp_path / "model", "kitchen", (), ())
    assert "measured with the preset qwen2_vl_7b, that is up to 16 frames of 252x252" in capsys.readouterr().err


def test_a_start_that_failed_leaves_no_claim(kitchen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def mine(groups):\n    return 1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        api.train("nano", [*TINY, MINE], "run")
    assert read_json(Path("run/status.json"))["state"] == "failed"
    api.train("nano", [*TINY, "eval.transfer=[]"], "run")
    assert read_json(Path("run/status.json"))["state"] == "done"
    with pytest.raises(UserError, match=r"holds run .*seed is 1, there 0"):
        api.train("nano", [*TINY, "seed=1"], "run")


def test_a_changed_plugin_file_is_another_run(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, "run")
    Path("mine.py").write_text(REWARD.replace("0.5", "5.0"))
    with pytest.raises(UserError, match=r"holds run .* \(mine.py has changed; .*\): give another --out"):
        settings = [*TINY, MINE, f"data={run.parent / 'data'}", "eval.transfer=[]", "train.max_completion_length=24"]
        api.train("nano", settings, "run", resume=True)


def test_group_rewards_are_refused_on_the_single_replies_of_an_evaluation(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("diversity.py").write_text(DIVERSITY)
    completions = f"eval.completions={run / 'eval'}"
    with pytest.raises(UserError, match=r"reward './diversity\.py' compares the completions of a group"):
        api.evaluate(run, overrides=[completions, 'eval.rewards."./diversity.py"={weight = 1.0}'], out="again")
    api.evaluate(run, overrides=[completions, "eval.rewards.repetition={weight = 1.0}"], out="third")
    assert all("rewards/repetition" in row for row in read_jsonl(Path("third/eval/L1.jsonl")))


def test_group_rewards_are_measured_on_the_groups_of_training(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("diversity.py").write_text(DIVERSITY)
    measured = ['eval.rewards."./diversity.py"={weight = 1.0}', "eval.rewards.grounding_temporal={weight = 1.0}"]
    metrics = api.evaluate(run, overrides=[f"eval.completions={run / 'samples'}", *measured], out="groups")
    rows = read_jsonl(Path("groups/samples/rescored.jsonl"))
    trained = [row for path in sorted((run / "samples").glob("*.jsonl")) for row in read_jsonl(path)]
    assert [row["completions"] for row in rows] == [row["completions"] for row in trained]
    assert all(
        a["columns"][name] == b["columns"][name] for a, b in zip(rows, trained, strict=True) for name in b["columns"]
    )
    for row in rows:
        size, distinct = len(row["completions"]), len({*row["completions"]})
        assert row["columns"]["./diversity.py"] == [distinct / size + size] * size and size == 4
        assert len(row["evidence"]["view:shuffled"]["completions"]) == 4
    values = [value for row in rows for value in row["columns"]["./diversity.py"]]
    assert metrics["samples/./diversity.py/mean"] == pytest.approx(sum(values) / len(values))
    assert "flat groups" in capsys.readouterr().out


def test_a_reward_that_paid_nothing_is_named_at_the_end():
    rows = [{"reward": 1.0, "rewards/a/mean": 0.5, "rewards/b/mean": 0.0, "rewards/b/std": 0.0}] * 2 + [{"eval": 1}]
    first, second = unpaid_rewards(rows, {"a": 1.0, "b": 0.5, "c": 0.1, "measured": 0.0})
    assert first.startswith("reward 'b' paid nothing in the whole run: it was 0 for every completion")
    assert second.startswith("reward 'c' paid nothing in the whole run: it applied to no completion")
    assert unpaid_rewards([], {"a": 1.0}) == []


def test_a_reward_that_decided_nothing_is_named_at_the_end():
    paid = {"reward": 1.0, "rewards/a/mean": 0.5, "rewards/flat/mean": 1.0}
    steps = [paid | {"advantage_share/a": share, "advantage_share/flat": 1e-14} for share in (0.0, 0.9)]
    [warning] = unpaid_rewards(steps, {"a": 1.0, "flat": 0.5})
    assert warning.startswith("reward 'flat' decided nothing, its advantage_share was 0 in every step")
    assert unpaid_rewards(steps[:1], {"a": 1.0, "flat": 0.5}) == [], "no reward decided: nothing was to be learnt"
    assert unpaid_rewards([paid], {"a": 1.0, "flat": 0.5}) == [], "without advantages, as in SFT"


def test_the_embedded_model_says_that_it_knows_the_kitchen_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(
        'layout = "multiple_choice"\npath = "q.jsonl"\nquestion = "q"\noptions = "o"\nanswer = "a"\n'
    )
    Path("q.jsonl").write_text(json.dumps({"q": "Which?", "o": ["up", "down"], "a": "A"}) + "\n")
    overrides = ["data=mine.toml", "train.max_steps=0", "eval.splits=['mine']", "eval.transfer=[]"]
    api.train("nano", overrides, "run")
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("the model nano knows the embedded kitchen and nothing else: on mine.toml it guesses") == 1


def test_a_benchmark_without_the_level_is_refused_at_once_with_the_setting_that_fixes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(
        'layout = "multiple_choice"\npath = "mine.jsonl"\nquestion = "q"\noptions = "o"\nanswer = "a"\nlevel = "l"\n'
    )
    rows = [{"q": f"{level}?", "o": ["up", "down"], "a": "A", "l": level} for level in ("train", "val")]
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"no level 'L1'; it has train, val: set eval\.splits=\['val'\]"):
        api.train("nano", ["data=mine.toml"], "run")
    Path("mine.jsonl").write_text(json.dumps(rows[1]) + "\n")
    with pytest.raises(UserError, match="no level 'train' to train on, only val"):
        api.train("nano", ["data=mine.toml", "eval.splits=['val']"], "run")
    assert not Path("run").exists()


def test_a_level_that_the_benchmark_lacks_leaves_no_folder(tmp_path):
    with pytest.raises(
        UserError, match=r"small has no level 'L9'; it has .*: set eval\.splits=\['L1', 'L2', 'L3', 'dev'\]"
    ):
        api.train("nano", ["data=kitchen/small", "eval.splits=['L9']"], tmp_path / "run")
    assert not (tmp_path / "run").exists()
