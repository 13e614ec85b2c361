"""`rlvid train` on the general path: a step and an evaluation of each family, resumed, exported and evaluated again."""

import json

import pytest
import torch
from safetensors.torch import load_file

from rlvid.__main__ import main
from tests.helpers.general_models import GENERAL, write_general_model
from tests.helpers.processes import Child, several

pytestmark = pytest.mark.usefixtures("quick_runs")

SHORT = [
    "train.max_steps=1", "train.prompts_per_step=3", "train.num_generations=3", "train.max_completion_length=10",
    "train.max_tokens_per_forward=1500", "eval.limit=2", "eval.batch_size=2", "eval.transfer=[]",
    'eval.splits=["L1", "L3"]',
    'eval.views=["blank"]', "rewards.random=1.0", "rewards.consistency_reanswer=0.5",
]  # fmt: skip


@pytest.fixture(scope="module", params=GENERAL)
def model_folder(request, kitchen, tmp_path_factory):
    if request.param == "smolvlm":
        pytest.importorskip("num2words")
    return write_general_model(request.param, tmp_path_factory.mktemp("general") / request.param)


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_a_model_of_any_family_trains_and_evaluates(model_folder, tmp_path, capsys):
    run, exported = tmp_path / "run", tmp_path / "exported"
    assert main(["train", "nano", f"model={model_folder}", *SHORT, "--out", str(run)]) == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1]
    for row in rows:
        assert row["grad_norm"] > 0 and row["sampling/sampling_logp_difference/max"] < 3e-4
    assert {"eval/L1/accuracy", "eval/L3/blank/accuracy"} <= rows[-1].keys()
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    before, after = weights(model_folder), weights(run / "checkpoints" / "step-000001")
    assert before.keys() == after.keys()
    changed = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert any("vision" in name or "visual" in name for name in changed) and len(changed) > len(after) / 2
    assert main(["export", str(run), str(exported)]) == 0
    assert main(["eval", str(exported), "--out", str(tmp_path / "eval")]) == 0
    for level in ("L1", "L3"):
        ours, again = ((folder / "eval" / f"{level}.jsonl").read_text() for folder in (run, tmp_path / "eval"))
        assert [json.loads(line)["completion"] for line in ours.splitlines()] == [
            json.loads(line)["completion"] for line in again.splitlines()
        ]


def test_an_adapter_and_a_critic_with_an_adapter_of_its_own_train(kitchen, tmp_path, capsys):
    folder, run = write_general_model("gemma3", tmp_path / "gemma3"), tmp_path / "run"
    settings = [
        "train.lora_r=4",
        "algorithm={name='ppo', beta=0.1, critic='adapter'}",
    ]
    assert main(["train", "nano", f"model={folder}", *SHORT, *settings, "--out", str(run)]) == 0
    [row] = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    assert row["grad_norm"] > 0 and abs(row["kl"]) < 1e-5
    saved = run / "checkpoints" / "step-000001"
    assert (saved / "critic.safetensors").is_file() and not (saved / "model.safetensors").exists()
    adapter = load_file(saved / "adapter_model.safetensors")
    assert {name.split(".")[-2] for name in adapter} == {"lora_A", "lora_B"}
    assert main(["eval", str(run), "--out", str(tmp_path / "eval")]) == 0
    ours, again = ((part / "eval" / "L1.jsonl").read_text() for part in (run, tmp_path / "eval"))
    assert ours == again


def test_two_processes_learn_as_one(kitchen, tmp_path):
    """Under DDP, with ranks whose prompts need different numbers of forward passes."""
    folder = write_general_model("gemma3", tmp_path / "gemma3")
    settings = [f"model={folder}", "train.max_steps=1", "train.num_generations=3", "train.max_completion_length=8"]
    settings += ["rewards.random=1.0", "eval.limit=1", "train.max_tokens_per_forward=600"]
    for child in (Child(tmp_path / "one", *settings), *several(tmp_path / "two", *settings)):
        code, log = child.end()
        assert code == 0, log
    one, two = (json.loads((tmp_path / name / "metrics.jsonl").read_text()) for name in ("one", "two"))
    assert one["grad_norm"] > 0
    assert all(two[key] == one[key] for key in ("reward", "num_completion_tokens"))
    for key in ("loss", "grad_norm", "entropy", "eval/L1/accuracy"):
        assert two[key] == pytest.approx(one[key], rel=1e-4, abs=1e-6), key
    ours, theirs = (weights(tmp_path / name / "checkpoints" / "step-000001") for name in ("one", "two"))
    assert max(float((weight - theirs[name]).abs().max()) for name, weight in ours.items()) < 3e-4
