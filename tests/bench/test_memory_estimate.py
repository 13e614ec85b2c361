"""The memory estimate against what torch allocates in real steps, and its arithmetic over devices."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils._python_dispatch import TorchDispatchMode

from rlvid.__main__ import main
from rlvid.bench import token_memory
from rlvid.bench.memory_estimate import Devices, estimate
from rlvid.bench.memory_items import Phase
from rlvid.bench.memory_tables import GB, machines_table
from rlvid.bench.parameter_counts import count_parameters
from rlvid.bench.token_memory import time_tokens, visual_tokens
from rlvid.bench.workload import filler_question, write_random_model
from rlvid.config import Plugin, load
from rlvid.errors import UserError
from rlvid.policy import packing
from rlvid.policy.families import FAMILIES
from rlvid.policy.prefill import prefill
from rlvid.policy.reference import Reference
from rlvid.types import Completion, Group, Prompt
from rlvid.video.read import Clock
from rlvid.video.views import Clip
from tests.helpers.policies import policy_of
from tests.helpers.sampling import no_timer
from tests.helpers.tiny_models import write_tiny_model

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
PROMPT_TOKENS, COMPLETION_TOKENS, FRAME_SIZE, FRAMES = 500, 40, 140, 8
# Of a model of 20 M parameters; a family whose head size is free has wider attention than its hidden size.
TEXT = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 6, "head_dim": 96}
ROPE = {"rope_type": "default", "rope_theta": 1e4}
MROPE = {
    "qwen2_5_vl": {"head_dim": 64, "rope_parameters": {**ROPE, "mrope_section": [8, 12, 12]}},
    "qwen3_vl": {"rope_parameters": {**ROPE, "mrope_section": [16, 16, 16]}},
    "qwen3_vl_moe": {"rope_parameters": {**ROPE, "mrope_section": [16, 16, 16]}, "moe_intermediate_size": 256},
}
VISION = {"hidden_size": 256, "intermediate_size": 704, "out_hidden_size": 384, "num_heads": 4, "depth": 4}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A Qwen2-VL of 22 M parameters."""
    return write_random_model("20m", tmp_path_factory.mktemp("model") / "20m")


def small_config(model_folder, *overrides):
    """A config of short completions about small frames."""
    return load(
        "nano",
        [
            f"model={model_folder}",
            f"train.max_completion_length={COMPLETION_TOKENS}",
            f"video.resized_height={FRAME_SIZE}",
            f"video.resized_width={FRAME_SIZE}",
            f"video.max_frames={FRAMES}",
            *overrides,
        ],
    )


def encoded_prompt(policy):
    """A prompt of exactly PROMPT_TOKENS tokens about a video and an image, and its model inputs."""
    generator = np.random.default_rng(0)
    side = round(FRAME_SIZE / policy.family.image_factor) * policy.family.image_factor
    sizes = (FRAMES, side, side, 3), (side, side, 3)
    clock = Clock(np.arange(FRAMES) / 2, 2.0)
    clip = Clip(*(generator.integers(0, 256, size, np.uint8) for size in sizes), clock)
    no_question = Prompt("q", "", ("a", "b", "c", "d"), "A")
    question = filler_question(len(policy.encode(no_question, clip).input_ids), PROMPT_TOKENS)
    prompt = replace(no_question, question=question)
    return prompt, policy.encode(prompt, clip)


def set_text_tokens(monkeypatch, config, policy):
    """Make the estimate assume prompts of PROMPT_TOKENS tokens."""
    others = visual_tokens(config.video, policy.family) + time_tokens(config.video, policy.family)
    monkeypatch.setattr(token_memory, "TEXT_TOKENS", PROMPT_TOKENS - others)


def bytes_by_name(config, devices=None, mixed_precision=True):
    """The items of an estimate: name -> bytes."""
    return {item.name: item.bytes for item in estimate(config, devices or Devices(), mixed_precision).items}


@pytest.fixture(scope="module", params=FAMILIES)
def family_folder(request, model_folder, tmp_path_factory):
    """A model of some 20 M parameters of each family."""
    if request.param == "qwen2_vl":
        return model_folder
    folder = tmp_path_factory.mktemp("model") / request.param
    return write_tiny_model(request.param, folder, text=TEXT | MROPE[request.param], vision=VISION)


class OperationsOfZeros(TorchDispatchMode):
    """Allocates what matrix products and attention allocate, without computing them.

    They take most of the time, in bfloat16 half a minute a test where the processor has no instructions for it.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        aten = torch.ops.aten
        if func in (aten.mm.default, aten.bmm.default, aten.addmm.default):
            left, right = args[-2:]
            return left.new_zeros(*left.shape[:-1], right.shape[-1])
        if func is aten._scaled_dot_product_flash_attention_for_cpu_backward.default:
            return tuple(torch.zeros_like(tensor) for tensor in args[1:4])  # of queries, keys and values
        return func(*args, **(kwargs or {}))


class TotalTracker(MemTracker):
    """Tracks all memory, without the table of each module that takes it half of its time."""

    def _update_peak_stats(self, peak_state):
        modules, self.memory_tracking = self.memory_tracking, {}
        super()._update_peak_stats(peak_state)
        self.memory_tracking = modules


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_learning_allocates_what_was_estimated(family_folder, monkeypatch, dtype, checkpointing):
    monkeypatch.setattr(packing, "is_exact_for", lambda query: False)  # attention as a GPU computes it
    overrides = [
        "train.max_tokens_per_forward=1",
        f"train.dtype={dtype}",
        f"train.gradient_checkpointing={checkpointing}",
    ]
    config = small_config(family_folder, *overrides)
    policy = policy_of(config).train()
    prompt, inputs = encoded_prompt(policy)
    set_text_tokens(monkeypatch, config, policy)
    group = Group(prompt, [Completion("", (5,) * COMPLETION_TOKENS) for _ in range(config.train.num_generations)])
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)  # as after a first micro-batch of several

    tracker = TotalTracker()
    tracker.track_external(policy.model)
    with OperationsOfZeros(), tracker:
        policy([inputs], [group]).logps.sum().backward()
    measured = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]

    estimated = estimate(config, Devices(), dtype == "bfloat16")
    without_moments = replace(estimated, items=tuple(i for i in estimated.items if i.name != "AdamW moments"))
    peak = max(without_moments.bytes_in(Phase.FORWARD), without_moments.bytes_in(Phase.BACKWARD))
    assert peak == pytest.approx(measured, rel=0.15), f"estimated {peak / 1e6:.0f} MB, took {measured / 1e6:.0f} MB"


def test_the_key_value_cache_is_estimated_to_the_byte(model_folder, monkeypatch):
    config = small_config(model_folder, "train.max_completion_length=1", "train.prompts_per_step=2")
    policy = policy_of(config).eval()
    _, inputs = encoded_prompt(policy)
    set_text_tokens(monkeypatch, config, policy)
    with torch.no_grad():
        cache = prefill(policy, [inputs, inputs], no_timer).cache
    prompt_bytes = sum(tensor.nbytes for layer in cache.layers for tensor in (layer.keys, layer.values))
    measured = prompt_bytes * config.train.num_generations
    estimated = bytes_by_name(config, mixed_precision=False)["key-value cache"]
    assert measured * (PROMPT_TOKENS + 1) / PROMPT_TOKENS == estimated  # the prompt, and one completion token


# As the index of each model's published weights says: its bytes, two a parameter.
PUBLISHED_SIZES = {
    "qwen2_vl_2b": 2_208_985_600,
    "qwen2_vl_7b": 8_291_375_616,
    "qwen2_5_vl_3b": 3_754_622_976,
    "qwen2_5_vl_7b": 8_292_166_656,
    "qwen3_vl_2b": 2_127_532_032,
    "qwen3_vl_4b": 4_437_815_808,
    "qwen3_vl_8b": 8_767_123_696,
}


def test_the_published_models_have_their_published_sizes():
    for preset, size in PUBLISHED_SIZES.items():
        config = load(preset)
        assert count_parameters(config.model, config.train).all == size


def test_a_lora_adapter_is_all_that_is_trained_and_needs_no_reference():
    full, adapted = load("qwen2_vl_7b"), load("qwen2_vl_7b", ["train.lora_r=16"])
    counts = count_parameters(adapted.model, adapted.train)
    # Inputs and outputs of the adapted layers, per rank: q and o, k and v, then the three of the MLP; 28 layers.
    adapted_features = 28 * (2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18944))
    assert counts.trainable == counts.adapters == 16 * adapted_features
    assert "reference" in bytes_by_name(full).keys() - bytes_by_name(adapted).keys()


def test_autocast_copies_a_frozen_head_that_is_tied_to_the_embeddings():
    """Seen with the 2B shape on a CPU: scoring with the reference took 5.48 GB, of which weights are 4.96."""
    adapted = bytes_by_name(load("qwen2_vl_2b", ["train.lora_r=16"]))
    assert adapted["tied head in bfloat16"] == 2 * 151_936 * 1536
    assert "tied head in bfloat16" not in bytes_by_name(load("qwen2_vl_2b"))  # counted among the trainable ones


def test_a_base_that_deepspeed_keeps_in_float32_is_copied_for_sampling():
    """The layers, and a head that is not tied; under ZeRO-3 the model's own layers decode."""
    config = load("qwen2_vl_7b", ["train.lora_r=16"])
    counts = count_parameters(config.model, config.train)
    copied = 2 * (counts.language + 152_064 * 3584)
    found = [bytes_by_name(config, Devices(8, zero_stage=stage)).get("base in bfloat16") for stage in (0, 2, 3)]
    assert found == [None, copied, None]


def test_frozen_matrices_are_estimated_in_bfloat16_to_the_byte(model_folder):
    adapted = small_config(model_folder, "train.dtype=bfloat16", "train.lora_r=4")
    full = small_config(model_folder, "train.dtype=bfloat16", "train.lora_r=0")
    reference = Reference(policy_of(full), full.train).policy
    with_reference = replace(full, algorithm=Plugin("grpo"))
    for policy, name, config in ((policy_of(adapted), "weights", adapted), (reference, "reference", with_reference)):
        measured = sum(parameter.nbytes for parameter in policy.model.parameters())
        assert bytes_by_name(config)[name] == measured


def test_zero_divides_what_it_shards():
    config = load("qwen2_vl_7b")
    ddp, zero2, zero3 = (bytes_by_name(config, Devices(8, stage)) for stage in (0, 2, 3))
    assert zero2["weights"] == ddp["weights"] == 8 * zero3["weights"]
    assert ddp["gradients"] == 8 * zero2["gradients"] == 8 * zero3["gradients"]
    assert ddp["AdamW moments"] == 8 * zero2["AdamW moments"]
    assert ddp["weights"] == zero2["reference"] == 8 * zero3["reference"] > 1.8 * ddp["reference"]
    bucket = "DeepSpeed's reduce bucket"
    assert zero2[bucket] == zero3[bucket] == 2e9 and bucket not in ddp
    assert "AdamW temporaries" in zero2 and "AdamW temporaries" not in ddp, "the fused kernel has none"
    assert zero3["policy, gathered"] == ddp["weights"] and "policy, gathered" not in zero2


def test_optimizer_and_weights_are_offloaded_separately(tmp_path):
    config = load("qwen2_vl_7b")
    not_offloaded = bytes_by_name(config, Devices(8, 3))
    weights = ("weights", "reference")
    moments = ("AdamW moments",)
    preset = (EXPERIMENTS / "presets/zero3_offload.yaml").read_text()
    for optimizer, param, on_device in (("cpu", "cpu", ()), ("cpu", "none", weights), ("none", "cpu", moments)):
        text = preset.replace("offload_optimizer_device: cpu", f"offload_optimizer_device: {optimizer}")
        text = text.replace("offload_param_device: cpu", f"offload_param_device: {param}")
        (tmp_path / "accelerate.yaml").write_text(text)
        offloaded = bytes_by_name(config, Devices.read(tmp_path / "accelerate.yaml"))
        for name in (*weights, *moments):
            assert offloaded[name] == (not_offloaded[name] if name in on_device else 0)


VLLM_7B = ["train.use_vllm=true", "train.vllm_max_model_length=2048", "train.lora_r=16"]


def test_vllm_is_estimated_as_its_share_of_the_device():
    config = load("qwen2_vl_7b", VLLM_7B)
    estimated = estimate(config, Devices(), device_bytes=80 * GB)
    share = next(item for item in estimated.items if item.name == "vLLM")
    assert share.bytes == 0.3 * 80 * GB and all(phase in share.phases for phase in Phase)
    without = bytes_by_name(replace(config, train=replace(config.train, use_vllm=False)))
    names = {item.name for item in estimated.items}
    assert without.keys() - names == {"key-value cache", "next-token logits"}, "vLLM's share includes its cache"


def test_vllm_on_an_unknown_device_is_estimated_as_the_least_that_it_needs():
    config = load("qwen2_vl_7b", VLLM_7B)
    least = bytes_by_name(config)["vLLM"]
    keys_and_values = 2 * 4 * 128 * 28  # 4 heads of 128 numbers in 28 layers
    assert least == 2 * (8_291_375_616 + 2048 * keys_and_values)
    with pytest.raises(UserError, match=r"vllm_gpu_memory_utilization = 0.3 of 24 GB is less than the 16\.7 GB that"):
        estimate(config, Devices(), device_bytes=24 * GB)


def test_a_plan_refuses_what_a_run_refuses(capsys):
    command = ["train", "nano", "train.prompts_per_step=4", "--plan"]
    assert main([*command, "experiments/presets/zero3.yaml"]) == 2
    assert "too small for 8 processes" in capsys.readouterr().err
    assert main(command) == 0
    out = capsys.readouterr().out
    eight = next(line for line in out.splitlines() if line.startswith("8 x 80"))
    assert "fits" not in eight and eight.count("refused") == 4
    assert "1 x 24" in out and "fits: below 90% of the device's memory" in out
    assert "lora_r = 16" in out and "a copy on each (DDP)" in out and "yes" in out
    assert main(["train", "nano", "train.lora_r=8", "--plan"]) == 0
    assert "lora_r = 16" not in capsys.readouterr().out


def test_machines_where_vllm_does_not_start_are_not_said_to_fit():
    table = machines_table(load("qwen2_vl_7b", VLLM_7B))
    as_configured = [str(cell) for cell in table.columns[1].cells]
    assert as_configured == ["refused", "refused", "45 fits", "64 fits", "refused", "45 fits"]
    assert "0.3 of 24 GB is less than" in str(table.caption)


def test_the_command_prints_an_estimate_and_writes_nothing(tmp_path, monkeypatch, capsys):
    assert main(["train", "qwen2_vl_2b", "--plan", "experiments/presets/zero3.yaml"]) == 0
    out = capsys.readouterr().out
    assert "policy, gathered" in out and "peak on each of 8 devices" in out and "8 x 80" in out
    monkeypatch.chdir(tmp_path)
    assert main(["train", "nano", "--plan"]) == 0
    assert not list(tmp_path.iterdir())


def test_wrong_device_files_and_models_are_refused(tmp_path, capsys):
    (tmp_path / "list.yaml").write_text("- a list")
    assert main(["train", "nano", "--plan", str(tmp_path / "list.yaml")]) == 2
    assert "num_processes" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"config\.json"):
        count_parameters(str(tmp_path), load("nano").train)
