"""`rlvid train` on the general path: a step and an evaluation of each family, resumed, exported and evaluated again."""

import json

import pytest
import torch
from safetensors.torch import load_file

from rlvid.__main__ import main
from tests.helpers.general_models import GENERAL, write_general_model

SHORT = [
    "train.max_steps=2", "train.prompts_per_step=3", "train.num_generations=3", "train.max_completion_length=10",
    "train.max_tokens_per_forward=1500", "eval.limit=2", "eval.batch_size=2", "eval.transfer=[]",
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
    assert [row["step"] for row in rows] == [1, 2]
    for row in rows:
        assert row["grad_norm"] > 0 and row["sampling/sampling_logp_difference/max"] < 1e-4
    assert {"eval/L1/accuracy", "eval/L3/blank/accuracy"} <= rows[-1].keys()
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    before, after = weights(model_folder), weights(run / "checkpoints" / "step-000002")
    assert before.keys() == after.keys()
    changed = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert any("vision" in name or "visual" in name for name in changed) and len(changed) > len(after) / 2
    assert main(["export", str(run), str(exported)]) == 0
    assert main(["eval", str(exported), "--out", str(tmp_path / "eval")]) == 0
    for level in ("L1", "L2", "L3"):
        ours, again = ((folder / "eval" / f"{level}.jsonl").read_text() for folder in (run, tmp_path / "eval"))
        assert [json.loads(line)["completion"] for line in ours.splitlines()] == [
            json.loads(line)["completion"] for line in again.splitlines()
        ]


def test_an_adapter_a_moving_reference_and_a_critic_train_and_resume(kitchen, tmp_path, capsys):
    """The same steps, whether or not the run was interrupted."""
    folder, runs = write_general_model("gemma3", tmp_path / "gemma3"), {}
    settings = [f"model={folder}", *SHORT, "train.lora_r=4", 'algorithm="ppo"', "train.save_steps=1"]
    for name, steps in (("whole", 2), ("parts", 1)):
        runs[name] = tmp_path / name
        assert main(["train", "nano", *settings, f"train.max_steps={steps}", "--out", str(runs[name])]) == 0
    assert main(["eval", str(runs["whole"]), "--out", str(tmp_path / "eval")]) == 0
    first, _ = (json.loads(line) for line in (runs["whole"] / "metrics.jsonl").read_text().splitlines())
    [alone] = (json.loads(line) for line in (runs["parts"] / "metrics.jsonl").read_text().splitlines())
    shared = {key for key in first if key in alone and not key.startswith("eval/")} - {"learning_rate"}
    assert {key: first[key] for key in shared} == {key: alone[key] for key in shared} and len(shared) > 20
