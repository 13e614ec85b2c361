"""The count of memory against what torch allocates in real steps, and its arithmetic over devices."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed._tools.mem_tracker import MemTracker
from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration

from rlvid.__main__ import main
from rlvid.bench import memory_estimate as plans
from rlvid.bench.memory_estimate import Devices, plan, sizes
from rlvid.bench.workload import architecture, question
from rlvid.config import Plugin, load
from rlvid.errors import UserError
from rlvid.policy.reference import Reference
from rlvid.policy.sampler import Sampler
from rlvid.registry import NANO_CHECKPOINT
from rlvid.types import Completion, Group, Prompt
from rlvid.video.views import Clip
from tests.helpers.policies import policy_of

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
PROMPT, REPLY, SIDE, FRAMES = 500, 40, 140, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Qwen2-VL of 22 M parameters."""
    path, tokenizer = tmp_path_factory.mktemp("plan") / "20m", AutoTokenizer.from_pretrained(NANO_CHECKPOINT)
    Qwen2VLForConditionalGeneration(architecture("20m", tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def configured(folder, *changes):
    film = [f"video.resized_height={SIDE}", f"video.resized_width={SIDE}", f"video.max_frames={FRAMES}"]
    return load("nano", [f"model={folder}", f"train.max_completion_length={REPLY}", *film, *changes])


def read(policy):
    """A prompt of exactly PROMPT tokens about a film and an image, as the model reads it."""
    random = np.random.default_rng(0)
    clip = Clip(*(random.integers(0, 256, size, np.uint8) for size in ((FRAMES, SIDE, SIDE, 3), (SIDE, SIDE, 3))))
    empty = Prompt("q", "", ("a", "b", "c", "d"), "A")
    prompt = replace(empty, question=question(len(policy.encode(empty, clip).input_ids), PROMPT))
    return prompt, policy.encode(prompt, clip)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_learning_takes_what_was_counted(folder, monkeypatch, dtype, checkpointing):
    changes = [
        "train.max_tokens_per_forward=1",
        f"train.dtype={dtype}",
        f"train.gradient_checkpointing={checkpointing}",
    ]
    config = configured(folder, *changes)
    policy = policy_of(config).train()
    prompt, encoded = read(policy)
    monkeypatch.setattr(plans, "TEXT", PROMPT - plans.pictures(config))
    group = Group(prompt, [Completion("", (5,) * REPLY) for _ in range(config.train.num_generations)])
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)  # as after a first forward of several

    tracker = MemTracker()
    tracker.track_external(policy.model)
    with tracker:
        policy([encoded], [group]).logps.sum().backward()
    took = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]

    parts = [p for p in plan(config, Devices(), dtype == "bfloat16").parts if p.name != "AdamW's moments"]
    counted = max(sum(p.size for p in parts if phase in p.phases.split()) for phase in ("learn", "back"))
    assert counted == pytest.approx(took, rel=0.15), f"counted {counted / 1e6:.0f} MB, took {took / 1e6:.0f} MB"


def test_the_cache_of_keys_and_values_is_counted_to_the_byte(folder, monkeypatch):
    config = configured(folder, "train.max_completion_length=1", "train.prompts_per_step=2")
    policy = policy_of(config).eval()
    _, encoded = read(policy)
    monkeypatch.setattr(plans, "TEXT", PROMPT - plans.pictures(config))
    with torch.no_grad():
        cache = Sampler(policy, config.train, lambda phase: nullcontext())._prefill([encoded, encoded]).cache
    held = sum(x.nbytes for layer in cache.layers for x in (layer.keys, layer.values)) * config.train.num_generations
    counted = {part.name: part.size for part in plan(config, Devices(), mixed=False).parts}["keys and values"]
    assert held * (PROMPT + 1) / PROMPT == counted, "and one place for the next token"


def test_the_published_models_have_their_published_sizes():
    assert sizes(load("qwen2_vl_7b")).all == 8_291_375_616
    assert sizes(load("qwen2_vl_2b")).all == 2_208_985_600


def test_an_adapter_trains_itself_alone_and_needs_no_reference():
    whole, adapted = load("qwen2_vl_7b"), load("qwen2_vl_7b", ["train.lora_r=16"])
    counted = sizes(adapted)
    linear = 28 * (2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18944))  # inputs and outputs of a rank
    assert counted.trainable == counted.extra == 16 * linear
    names = {part.name for part in plan(adapted, Devices()).parts}
    assert "the reference" in {part.name for part in plan(whole, Devices()).parts} - names


def test_what_rests_is_held_in_half(folder):
    """By a policy with an adapter, and by a frozen reference, to the byte."""
    adapted, whole = (configured(folder, "train.dtype=bfloat16", f"train.lora_r={rank}") for rank in (4, 0))
    for policy, part, config in (
        (policy_of(adapted), "weights", adapted),
        (Reference(policy_of(whole), whole.train).policy, "the reference", replace(whole, algorithm=Plugin("grpo"))),
    ):
        held = sum(parameter.nbytes for parameter in policy.model.parameters())
        assert {p.name: p.size for p in plan(config, Devices()).parts}[part] == held


def test_zero_divides_what_it_shards():
    config = load("qwen2_vl_7b")
    one, two, three = ({p.name: p.size for p in plan(config, Devices(8, stage)).parts} for stage in (0, 2, 3))
    assert two["weights"] == one["weights"] == 8 * three["weights"]
    assert one["gradients"] == 8 * two["gradients"] == 8 * three["gradients"]
    assert one["AdamW's moments"] == 8 * two["AdamW's moments"]
    assert one["weights"] == two["the reference"] == 8 * three["the reference"] > 1.8 * one["the reference"]
    assert three["the policy, whole"] == one["weights"] and "the policy, whole" not in two


def test_what_is_offloaded_is_read_part_by_part(tmp_path):
    config, names = load("qwen2_vl_7b"), ("AdamW's moments", "weights", "the reference")
    full = {p.name: p.size for p in plan(config, Devices(8, 3)).parts}
    for optimizer, param, there in (("cpu", "cpu", ()), ("cpu", "none", names[1:]), ("none", "cpu", names[:1])):
        text = (EXPERIMENTS / "presets/zero3_offload.yaml").read_text()
        text = text.replace("offload_optimizer_device: cpu", f"offload_optimizer_device: {optimizer}")
        (tmp_path / "a.yaml").write_text(text.replace("offload_param_device: cpu", f"offload_param_device: {param}"))
        parts = {p.name: p.size for p in plan(config, Devices.read(tmp_path / "a.yaml")).parts}
        assert {name: parts[name] for name in names} == {name: full[name] * (name in there) for name in names}


def test_the_command_counts_and_trains_nothing(tmp_path, monkeypatch, capsys):
    assert main(["train", "qwen2_vl_2b", "--plan", "experiments/presets/zero3.yaml"]) == 0
    out = capsys.readouterr().out
    assert "the policy, whole" in out and "on each device of 8" in out and "8 x 80" in out
    monkeypatch.chdir(tmp_path)
    assert main(["train", "nano", "--plan"]) == 0
    assert not list(tmp_path.iterdir())
    (tmp_path / "bad.yaml").write_text("- a list")
    assert main(["train", "nano", "--plan", "bad.yaml"]) == 2
    assert "num_processes" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"config\.json"):
        sizes(load("nano", [f"model={tmp_path}"]))
