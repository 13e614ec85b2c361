"""LoRA: only the adapter is trained, the base is the reference, `from_pretrained` reads it, and cold starts."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen2VLForConditionalGeneration

from rlvid import api
from rlvid.config import load
from rlvid.errors import UserError
from rlvid.policy.optimizer import learning_rate_warning
from rlvid.policy.reference import Reference
from rlvid.registry import NANO_CHECKPOINT
from rlvid.types import Completion, Group
from rlvid.utils.files import read_jsonl
from tests.helpers import processes
from tests.helpers.policies import add_critic, load_policy, policy_of
from tests.helpers.runs import stop_after, train

pytestmark = pytest.mark.usefixtures("quick_runs")

LORA = ["train.lora_r=4", "train.max_steps=4", "train.save_steps=2", "eval.splits=['L1']"]
COLD_START = ["cold_start.max_steps=2", "cold_start.prompts_per_step=8", "cold_start.learning_rate=1e-4"]


def load_model(folder):
    return Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def run(kitchen, tmp_path_factory):
    return train(tmp_path_factory.mktemp("lora") / "run", *LORA, "algorithm.beta=0.1")


def test_a_checkpoint_holds_the_adapter_only_and_from_pretrained_reads_it(run):
    folder = run / "checkpoints/step-000004"
    assert not (folder / "model.safetensors").exists()
    tensors = load_file(folder / "adapter_model.safetensors")
    assert len(tensors) == 56 and all("language_model" in name for name in tensors)
    trained = [tensor for name, tensor in tensors.items() if "lora_B" in name]
    assert all(tensor.abs().max() > 0 for tensor in trained), "B starts at zero"

    adapted = dict(load_model(folder).named_parameters())
    for name, parameter in load_model(NANO_CHECKPOINT).named_parameters():
        is_adapted = "language_model" in name and "proj." in name
        base_name = name.replace("proj.", "proj.base_layer.") if is_adapted else name
        assert torch.equal(adapted[base_name], parameter), "the base is not trained"


def test_a_learning_rate_of_full_fine_tuning_is_a_warning(run, tmp_path, capsys):
    train(tmp_path / "slow", *LORA, "train.max_steps=1", "train.learning_rate=1e-6", "eval.splits=[]")
    text = " ".join(capsys.readouterr().err.split())
    assert "train.learning_rate=1e-06 is a rate of full fine-tuning: adapters usually need ten times as much" in text
    for unaffected in ("train.lora_r=0", "train.learning_rate=1e-5", "train.max_steps=0"):
        assert learning_rate_warning(load("qwen2_vl_7b", ["train.lora_r=16", unaffected]).train) is None


def test_the_base_is_the_reference(kitchen, prompts):
    policy = load_policy("train.lora_r=4")
    inputs = [policy.encode(prompts[0])]
    groups = [Group(prompts[0], [Completion("", (11, 12, 13))])]
    reference = Reference(policy, load("nano").train)
    with torch.no_grad():
        before = policy(inputs, groups).logps
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        assert not torch.allclose(policy(inputs, groups).logps, before, atol=1e-3)
        assert torch.equal(reference(inputs, groups, 1.0).logps, before)
    assert policy(inputs, groups).logps.requires_grad, "the adapter is trainable again after the reference's pass"
    trainable = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    assert trainable == {name for name, _ in policy.named_parameters() if ".lora_" in name}


def test_the_kl_grows_from_zero_and_a_resumed_run_has_the_same_metrics(run):
    metrics = (run / "metrics.jsonl").read_bytes()
    rows = read_jsonl(run / "metrics.jsonl")
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6) and rows[-1]["kl"] > 0
    stop_after(run, 2)
    train(run, *LORA, "algorithm.beta=0.1", resume=True)
    assert (run / "metrics.jsonl").read_bytes() == metrics


def test_eval_and_export_read_an_adapter(run, tmp_path):
    api.evaluate(run, splits=["L1"], overrides=["eval.limit=6"], out=tmp_path / "adapter")
    assert read_jsonl(tmp_path / "adapter/eval/L1.jsonl") == read_jsonl(run / "eval/L1.jsonl")
    api.export(run, tmp_path / "model")
    assert (tmp_path / "model/model.safetensors").exists()
    overrides = ["eval.limit=6", "data=kitchen", "video.resized_height=56", "video.resized_width=56"]
    overrides += ["train.max_completion_length=40"]
    api.evaluate(tmp_path / "model", splits=["L1"], overrides=overrides, out=tmp_path / "merged")
    adapter, merged = (read_jsonl(tmp_path / name / "eval/L1.jsonl") for name in ("adapter", "merged"))
    assert [row["completion"] for row in adapter] == [row["completion"] for row in merged]


def test_a_moving_reference_and_a_second_adapter_are_refused(run, tmp_path):
    with pytest.raises(UserError, match="sync_ref_model"):
        load("nano", ["train.lora_r=4", "train.sync_ref_model=true"])
    adapter = f"model={run / 'checkpoints/step-000004'}"
    with pytest.raises(UserError, match="rlvid export"):
        train(tmp_path / "twice", adapter, *LORA)


@pytest.fixture(scope="module")
def without_cold_start(kitchen, tmp_path_factory):
    """A run without a cold start. Its first step's metrics are the same with LoRA, whose adapter starts at zero."""
    return train(tmp_path_factory.mktemp("lora") / "cold", "train.max_steps=1", "eval.splits=['L1']")


@pytest.mark.parametrize("lora", [[], ["train.lora_r=4"]], ids=["full", "lora"])
def test_a_cold_start_is_sft_before_the_run(without_cold_start, tmp_path, lora):
    changes = [*COLD_START, *lora, "train.max_steps=2", "train.save_steps=1", "eval.splits=['L1']"]
    out = train(tmp_path / "warm", *changes)
    sft, rows = read_jsonl(out / "cold_start/metrics.jsonl"), read_jsonl(out / "metrics.jsonl")
    assert [row["step"] for row in sft] == [1, 2] and sft[0]["rewards/accuracy/mean"] == 1.0
    assert json.loads((out / "cold_start/status.json").read_text())["state"] == "done"
    entropy_without = read_jsonl(without_cold_start / "metrics.jsonl")[0]["entropy"]
    assert abs(rows[0]["entropy"] - entropy_without) > 1e-3
    start = out / "cold_start/folded"
    trained, base = load_file(start / "model.safetensors"), load_file(NANO_CHECKPOINT / "model.safetensors")
    assert any(not torch.equal(trained[name], base[name].float()) for name in trained.keys() & base.keys())

    stop_after(out, 1)
    train(out, *changes, resume=True)
    assert read_jsonl(out / "metrics.jsonl") == rows
    if lora:  # the adapter's base is the merged cold start
        adapted, merged = load_model(out / "checkpoints/step-000002"), load_model(start)
        layer = "model.language_model.layers.0.mlp.up_proj"
        base_weight = adapted.get_parameter(f"{layer}.base_layer.weight")
        assert torch.equal(base_weight, merged.get_parameter(f"{layer}.weight"))


@pytest.mark.parametrize("setting", ["train.lora_r=4", "train.freeze_vision_tower=true"])
def test_frozen_matrices_in_bfloat16_change_no_bit(prompts, setting, monkeypatch):
    """Under autocast they are rounded at each use; rounded once, outputs and gradients are the same."""
    results = []
    for cast in (True, False):
        with monkeypatch.context() as patch:
            if not cast:
                patch.setattr("rlvid.policy.model.cast_frozen_to_bf16", lambda model: None)
            policy = load_policy(setting, "train.dtype=bfloat16")
        group = Group(prompts[0], [Completion("", (5, 6, 7)), Completion("", (8, 9))])
        logps = policy([policy.encode(prompts[0])], [group]).logps
        (logps * torch.arange(3)).sum().backward()
        gradients = {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}
        results.append((logps.detach(), gradients, sum(p.nbytes for p in policy.model.parameters())))
    (logps, gradients, size), (expected_logps, expected, full_size) = results
    assert size < 0.95 * full_size
    assert torch.equal(logps, expected_logps) and gradients.keys() == expected.keys()
    assert all(torch.equal(gradients[name], expected[name]) for name in expected)


WARM_PPO = ["train.lora_r=4", "train.max_steps=2", "algorithm=ppo", "algorithm.critic=adapter", "algorithm.beta=0.1"]
WARM_PPO += ["cold_start.max_steps=1", "cold_start.prompts_per_step=4", "train.prompts_per_step=4"]


@pytest.fixture(scope="module")
def single_process_run(kitchen, tmp_path_factory):
    """A cold start, then PPO with an adapter and another one for the critic, in one process."""
    out = tmp_path_factory.mktemp("lora") / "single"
    api.train("nano", [*processes.SMALL, *WARM_PPO], out)
    return out


@pytest.mark.parametrize("stage", [0, 3], ids=["ddp", "zero3"])
def test_two_processes_start_from_the_weights_of_one(single_process_run, tmp_path, stage):
    for child in processes.several(out := tmp_path / "two", *WARM_PPO, zero=stage):
        code, log = child.end()
        assert code == 0, log
    assert (out / "cold_start/folded/model.safetensors").is_file()
    for name in ("cold_start/metrics.jsonl", "metrics.jsonl"):
        for row, expected in zip(read_jsonl(out / name), read_jsonl(single_process_run / name), strict=True):
            assert row == pytest.approx(expected, rel=2e-3, abs=2e-4)


def test_initial_weights_of_an_adapter_depend_on_seed_and_name_only(kitchen):
    def initial_weights(seed, global_seed):
        torch.manual_seed(global_seed)
        config = load("nano", ["train.lora_r=4", f"seed={seed}"])
        policy = add_critic(policy_of(config), "adapter", config)
        return {name: parameter for name, parameter in policy.named_parameters() if ".lora_A." in name}

    first, again, other = initial_weights(0, 1), initial_weights(0, 2), initial_weights(1, 1)
    assert all(torch.equal(first[name], again[name]) and not torch.equal(first[name], other[name]) for name in first)
    policys, critics = (first[name] for name in first if "layers.0.self_attn.q_proj" in name)
    assert not torch.equal(policys, critics)
