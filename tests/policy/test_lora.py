"""LoRA: only the adapter learns, the base is the reference, folders that from_pretrained reads, and a cold start."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen2VLForConditionalGeneration

from rlvid import api
from rlvid.config import load
from rlvid.errors import UserError
from rlvid.nano.model import BASE
from rlvid.policy.critic import Critic
from rlvid.policy.model import Policy
from rlvid.policy.reference import Reference
from rlvid.types import Completion, Group
from rlvid.utils.files import read_jsonl
from tests.helpers import processes
from tests.helpers.runs import stop_after, train

LORA = ["train.lora_r=4", "train.max_steps=4", "train.save_steps=2", "eval.splits=['L1']"]


@pytest.fixture(scope="module")
def run(kitchen, tmp_path_factory):
    return train(tmp_path_factory.mktemp("lora") / "run", *LORA, "algorithm.beta=0.1")


def test_only_the_adapter_is_saved_and_from_pretrained_reads_it(run):
    folder = run / "checkpoints/step-000004"
    assert not (folder / "model.safetensors").exists()
    tensors = load_file(folder / "adapter_model.safetensors")
    assert len(tensors) == 56 and all("language_model" in name for name in tensors)
    model = Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    base = Qwen2VLForConditionalGeneration.from_pretrained(BASE, dtype=torch.float32)
    own, theirs = (dict(m.named_parameters()) for m in (model, base))
    for name, parameter in theirs.items():
        inside = "language_model" in name and "proj." in name
        assert torch.equal(own[name.replace("proj.", "proj.base_layer.") if inside else name], parameter)
    learnt = [t for n, t in tensors.items() if "lora_B" in n]
    assert all(t.abs().max() > 0 for t in learnt)  # B starts at zero


def test_the_base_is_the_reference(kitchen, prompts):
    policy = Policy.load(load("nano", ["train.lora_r=4"]))
    encoded = [policy.encode(prompts[0])]
    groups = [Group(prompts[0], [Completion("", (11, 12, 13))])]
    reference = Reference(policy, load("nano").train)
    with torch.no_grad():
        before = policy(encoded, groups).logps
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        assert not torch.allclose(policy(encoded, groups).logps, before, atol=1e-3)
        assert torch.equal(reference(encoded, groups, 1.0).logps, before)
    assert policy(encoded, groups).logps.requires_grad  # what is trainable stays so
    assert {n for n, p in policy.named_parameters() if p.requires_grad} == {
        n for n, _ in policy.named_parameters() if ".lora_" in n
    }


def test_it_pulls_and_resumes_exactly(run):
    whole = (run / "metrics.jsonl").read_bytes()
    rows = read_jsonl(run / "metrics.jsonl")
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6) and rows[-1]["kl"] > 0
    stop_after(run, 2)
    train(run, *LORA, "algorithm.beta=0.1", resume=True)
    assert (run / "metrics.jsonl").read_bytes() == whole


def test_eval_and_export_read_an_adapter(run, tmp_path):
    api.evaluate(run, splits=["L1"], overrides=["eval.limit=6"], out=tmp_path / "eval")
    assert read_jsonl(tmp_path / "eval/eval/L1.jsonl") == read_jsonl(run / "eval/L1.jsonl")
    api.export(run, tmp_path / "whole")
    assert (tmp_path / "whole/model.safetensors").exists()
    api.evaluate(tmp_path / "whole", splits=["L1"], overrides=["eval.limit=6", "data=kitchen",
                   "video.resized_height=56", "video.resized_width=56", "train.max_completion_length=40"],
                   out=tmp_path / "again")  # fmt: skip
    first, second = (read_jsonl(tmp_path / name / "eval/L1.jsonl") for name in ("eval", "again"))
    assert [row["completion"] for row in first] == [row["completion"] for row in second]


def test_what_does_not_go_together_is_refused(run, tmp_path):
    with pytest.raises(UserError, match="sync_ref_model"):
        load("nano", ["train.lora_r=4", "train.sync_ref_model=true"])
    adapter = f"model={run / 'checkpoints/step-000004'}"
    with pytest.raises(UserError, match="rlvid export"):
        train(tmp_path / "twice", adapter, *LORA)


@pytest.mark.parametrize("lora", [[], ["train.lora_r=4"]])
def test_a_cold_start_is_sft_first(kitchen, tmp_path, lora):
    changes = ["cold_start.max_steps=2", "cold_start.prompts_per_step=8", "cold_start.learning_rate=1e-4", *lora]
    changes += ["train.max_steps=2", "train.save_steps=1", "eval.splits=['L1']"]
    out = train(tmp_path / "warm", *changes)
    first, rest = read_jsonl(out / "cold_start/metrics.jsonl"), read_jsonl(out / "metrics.jsonl")
    assert [row["step"] for row in first] == [1, 2] and first[0]["rewards/accuracy/mean"] == 1.0
    assert json.loads((out / "cold_start/status.json").read_text())["state"] == "done"
    cold = read_jsonl(train(tmp_path / "cold", "cold_start.max_steps=0", *changes[3:]) / "metrics.jsonl")
    assert rest[0]["entropy"] != cold[0]["entropy"]
    start = out / "cold_start/folded/model.safetensors"
    assert any(
        not torch.equal(a, b.float()) for a, b in _shared(load_file(start), load_file(BASE / "model.safetensors"))
    )
    stop_after(out, 1)
    train(out, *changes, resume=True)
    assert read_jsonl(out / "metrics.jsonl") == rest
    if lora:  # the adapter stands on the folded cold start, and is read so
        model = Qwen2VLForConditionalGeneration.from_pretrained(out / "checkpoints/step-000002", dtype=torch.float32)
        under = Qwen2VLForConditionalGeneration.from_pretrained(start.parent, dtype=torch.float32)
        name = "model.language_model.layers.0.mlp.up_proj"
        assert torch.equal(model.get_parameter(f"{name}.base_layer.weight"), under.get_parameter(f"{name}.weight"))


def _shared(one, other):
    assert one.keys() & other.keys()
    return [(one[name], other[name]) for name in one.keys() & other.keys()]


@pytest.mark.parametrize("setting", ["train.lora_r=4", "train.freeze_vision_tower=true"])
def test_matrices_that_rest_are_halved_without_a_bit_changing(prompts, setting, monkeypatch):
    """In bfloat16 autocast rounds them at each use; rounded once, they say and teach the same."""
    found = []
    for halved in (True, False):
        with monkeypatch.context() as patch:
            if not halved:
                patch.setattr("rlvid.policy.model.halve", lambda model: None)
            torch.manual_seed(0)
            policy = Policy.load(load("nano", [setting, "train.dtype=bfloat16"]))
        group = Group(prompts[0], [Completion("", (5, 6, 7)), Completion("", (8, 9))])
        seen = policy([policy.encode(prompts[0])], [group])
        (seen.logps * torch.arange(3)).sum().backward()
        grads = {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}
        found.append((seen.logps.detach(), grads, sum(p.nbytes for p in policy.model.parameters())))
    (logps, grads, small), (plain, wanted, large) = found
    assert torch.equal(logps, plain) and grads.keys() == wanted.keys() and small < 0.95 * large
    assert all(torch.equal(grads[name], wanted[name]) for name in wanted)


WARM = ["train.lora_r=4", "train.max_steps=2", "algorithm=ppo", "algorithm.critic=adapter", "algorithm.beta=0.1"]
WARM += ["cold_start.max_steps=1", "cold_start.prompts_per_step=4", "train.prompts_per_step=4"]


@pytest.fixture(scope="module")
def alone(kitchen, tmp_path_factory):
    """A cold start, then an adapter and a critic with another one, in one process."""
    out = tmp_path_factory.mktemp("lora") / "alone"
    api.train("nano", [*processes.SMALL, *WARM], out)
    return out


@pytest.mark.parametrize("zero", [0, 3], ids=["ddp", "zero3"])
def test_two_processes_start_where_one_does(alone, tmp_path, zero):
    for child in processes.several(out := tmp_path / "two", *WARM, zero=zero):
        code, said = child.end()
        assert code == 0, said
    assert (out / "cold_start/folded/model.safetensors").is_file()
    for name in ("cold_start/metrics.jsonl", "metrics.jsonl"):
        for mine, other in zip(read_jsonl(out / name), read_jsonl(alone / name), strict=True):
            assert mine == pytest.approx(other, rel=2e-3, abs=2e-4)


def test_where_an_adapter_starts_is_the_seeds_alone(kitchen):
    def start(seed, drawn):
        torch.manual_seed(drawn)
        config = load("nano", ["train.lora_r=4", f"seed={seed}"])
        policy = Policy.load(config)
        Critic("adapter", policy.model, config)
        return {name: p for name, p in policy.named_parameters() if ".lora_A." in name}

    first, again, other = start(0, 1), start(0, 2), start(1, 1)
    assert all(torch.equal(first[name], again[name]) and not torch.equal(first[name], other[name]) for name in first)
    mine, critics = (first[name] for name in first if "layers.0.self_attn.q_proj" in name)
    assert not torch.equal(mine, critics)
