"""Weights of their own for decoding: equal to the model's own layers, never stale, and no trace in the model."""

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file
from torch import nn

from rlvid.config import load
from rlvid.policy import cpu_linear, sampler
from rlvid.policy.cpu_linear import onednn_linears
from rlvid.policy.decoding import SharedPrefixCache
from rlvid.policy.graph_cache import CudaGraphCache
from rlvid.policy.last_layer import rotate
from rlvid.policy.model import Policy
from rlvid.policy.parity import SAMPLER_TOLERANCE
from rlvid.policy.prefill import prefill
from rlvid.policy.reference import Reference
from rlvid.policy.sampling_weights import FusedLinear, SamplingWeights, fuse, rotate_token, rotation_of_token
from tests.helpers.operators import CountOperators
from tests.helpers.packed_rows import outputs_and_gradients, perturb, random_completions, score_packed
from tests.helpers.policies import add_critic, load_policy, policy_of
from tests.helpers.sampling import encode_all, generate_greedily, make_sampler, no_timer
from tests.helpers.tiny_models import write_tiny_model

LORA, BF16 = "train.lora_r=4", "train.dtype=bfloat16"
CACHES = [SharedPrefixCache, CudaGraphCache]
MODELS_AND_CACHES = [
    *(("nano", cache) for cache in CACHES),
    *zip(("nano/qwen2_5_vl", "nano/qwen3_vl"), CACHES, strict=True),
]


def own_layers(monkeypatch):
    """Decode with the model's own layers from now on."""
    monkeypatch.setattr(sampler.SamplingWeights, "of", classmethod(lambda cls, policy: None))


def differences(policy, prompts, **changes):
    """|sampled - learner's log-prob| of all tokens, and the tokens; with the weights that `Sampler` chooses."""
    inputs = encode_all(policy, prompts)
    groups = make_sampler(policy, **changes)(prompts, inputs, "7")
    with torch.no_grad():
        logps = policy(inputs, groups).logps
    completions = [completion for group in groups for completion in group]
    rows = [
        (row[: len(completion.logps)] - torch.tensor(completion.logps)).abs()
        for row, completion in zip(logps, completions, strict=True)
    ]
    return torch.cat(rows), [completion.tokens for completion in completions]


@pytest.mark.parametrize(("model", "cache_type"), MODELS_AND_CACHES)
def test_in_float32_lora_samples_as_the_models_own_layers(prompts, model, cache_type, monkeypatch):
    policy = perturb(load_policy(f"model={model}", LORA))
    assert SamplingWeights.of(policy)
    difference, tokens = differences(policy, prompts[:3], cache_type=cache_type)
    assert difference.max() < 1e-4
    own_layers(monkeypatch)
    assert differences(policy, prompts[:3], cache_type=cache_type)[1] == tokens


def test_experts_run_as_they_are(kitchen, prompts, tmp_path):
    folder = write_tiny_model("qwen3_vl_moe", tmp_path / "experts")
    policy = perturb(load_policy(f"model={folder}", LORA))
    layer = SamplingWeights.of(policy).layers[0]
    assert layer.mlp is policy.model.model.language_model.layers[0].mlp and len(layer.qkv.down)
    assert differences(policy, prompts[:2])[0].max() < 1e-4


@pytest.mark.parametrize(("model", "setting"), [("nano", []), ("nano", [LORA]), ("nano/qwen3_vl", [LORA])])
def test_in_bfloat16_they_are_as_near_to_the_learner_as_the_models_own_layers(prompts, model, setting, monkeypatch):
    policy = perturb(load_policy(f"model={model}", BF16, *setting))
    assert SamplingWeights.of(policy).layers[0].qkv.weight.dtype == torch.bfloat16
    difference, _ = differences(policy, prompts[:3], max_completion_length=12)
    own_layers(monkeypatch)
    own_difference, _ = differences(policy, prompts[:3], max_completion_length=12)
    assert difference.mean() < 1.5 * own_difference.mean()
    assert difference.mean() < SAMPLER_TOLERANCE[True]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
@pytest.mark.parametrize("setting", [[], [LORA]])
def test_packed_matrices_sample_as_the_models_own_layers_and_follow_the_weights(prompts, setting, monkeypatch):
    policy = perturb(load_policy(*setting))
    tokens = differences(policy, prompts[:3])[1]
    monkeypatch.setattr(cpu_linear, "MIN_ENTRIES", 10_000)  # so that nano has large ones
    layer = SamplingWeights.of(policy).layers[0]
    assert layer.mlp.gate_up.weight.is_mkldnn and layer.mlp.gate_up.product is cpu_linear.multiply_packed
    difference, packed_tokens = differences(policy, prompts[:3])
    assert packed_tokens == tokens and difference.max() < 1e-4
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.05)
    assert differences(policy, prompts[:3])[0].max() < 1e-4


def test_greedy_tokens_are_those_of_generate(prompts):
    policy = perturb(load_policy(LORA))
    inputs = encode_all(policy, prompts[:2])
    groups = make_sampler(policy, temperature=0.0, num_generations=1)(prompts[:2], inputs, "")
    expected = [generate_greedily(policy, *row) for row in zip(prompts[:2], inputs, strict=True)]
    assert [list(group.completions[0].tokens) for group in groups] == expected


@pytest.mark.parametrize("setting", [LORA, BF16])
def test_sampling_follows_the_weights_and_the_alarm_finds_a_stale_copy(prompts, setting, monkeypatch):
    policy = perturb(load_policy(setting))
    stale = SamplingWeights.of(policy)
    rounding, _ = differences(policy, prompts[:2], max_completion_length=12)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.2)
    moved, _ = differences(policy, prompts[:2], max_completion_length=12)
    limit = SAMPLER_TOLERANCE[policy.bf16]
    assert rounding.mean() < limit and moved.mean() < limit
    monkeypatch.setattr(sampler.SamplingWeights, "of", classmethod(lambda cls, policy: stale))
    assert differences(policy, prompts[:2], max_completion_length=12)[0].mean() > limit


def test_sampling_leaves_weights_gradients_and_checkpoints_as_they_were(prompts, tmp_path):
    policy = perturb(load_policy(LORA))
    before = {name: parameter.detach().clone() for name, parameter in policy.named_parameters()}
    same = list(policy.parameters())
    inputs, completions = encode_all(policy, prompts[:1]), random_completions([[4, 2]])
    _, gradients = outputs_and_gradients(policy, score_packed, inputs, completions)
    policy.save(tmp_path / "before")
    differences(policy, prompts[:1])
    assert not any(parameter.is_inference() for parameter in policy.parameters()), "a backward pass may save them"
    assert all(one is other for one, other in zip(same, policy.parameters(), strict=True))
    assert all(torch.equal(parameter, before[name]) for name, parameter in policy.named_parameters())
    _, again = outputs_and_gradients(policy, score_packed, inputs, completions)
    assert all(torch.equal(again[name], gradient) for name, gradient in gradients.items())
    policy.save(tmp_path / "after")
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("before", "after"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_reference_and_a_critics_adapter_are_left_out(prompts):
    config = load("nano", [LORA])
    policy = perturb(add_critic(policy_of(config), "adapter", config))
    assert differences(policy, prompts[:1])[0].max() < 1e-4
    with Reference(policy, config.train).as_policy() as base:
        assert not len(SamplingWeights.of(base).layers[0].qkv.down)
        assert differences(base, prompts[:1])[0].max() < 1e-4


@pytest.mark.parametrize("cache_type", CACHES)
def test_the_models_own_layers_decode_the_same_tokens(policy, prompts, cache_type, monkeypatch):
    assert SamplingWeights.of(policy)
    tokens = differences(policy, prompts[:3], cache_type=cache_type)[1]
    own_layers(monkeypatch)
    difference, own_tokens = differences(policy, prompts[:3], cache_type=cache_type)
    assert own_tokens == tokens and difference.max() < 1e-4


def test_on_a_gpu_in_float32_without_lora_the_models_own_layers_decode(policy, monkeypatch):
    monkeypatch.setattr(Policy, "device", torch.device("cuda"))
    assert SamplingWeights.of(policy) is None


def test_what_is_not_plain_or_not_whole_is_decoded_by_the_models_own_layers(kitchen):
    dora = load_policy()
    dora.model.add_adapter(LoraConfig(r=2, use_dora=True, target_modules=["q_proj"]))
    with_bias = load_policy()
    with_bias.model.add_adapter(LoraConfig(r=2, lora_bias=True, target_modules=["q_proj"]))
    with_dropout = load_policy()
    with_dropout.model.add_adapter(LoraConfig(r=2, lora_dropout=0.5, target_modules=["q_proj"]))
    head = load_policy(LORA)
    head.model.lm_head = nn.Sequential(head.model.lm_head)  # as modules_to_save wraps a module
    sharded = load_policy(LORA)
    next(sharded.model.parameters()).ds_tensor = torch.zeros(1)
    assert [SamplingWeights.of(other) for other in (dora, with_bias, head, sharded)] == [None] * 4
    assert SamplingWeights.of(with_dropout.eval()) and SamplingWeights.of(with_dropout.train()) is None


def test_frozen_matrices_are_fused_without_a_copy():
    weights = [nn.Parameter(torch.randn(rows, 3), requires_grad=False) for rows in (4, 2, 2)]
    expected = torch.cat(list(weights))
    fused = fuse(weights, torch.float32)
    assert torch.equal(fused, expected) and torch.equal(torch.cat(list(weights)), expected)
    weights[1].data[0, 0] = 7.0  # an optimizer of another kind, or a moving average
    assert fused[4, 0] == 7 and fuse(weights, torch.float32).data_ptr() == fused.data_ptr()
    assert fuse(weights, torch.bfloat16).data_ptr() != fused.data_ptr(), "a cast is a copy"
    trained = [nn.Parameter(torch.randn(2, 3)) for _ in range(2)]
    fused = fuse(trained, torch.float32)
    assert torch.equal(fused, torch.cat(list(trained))) and fused.data_ptr() != trained[0].data_ptr()


def test_fused_products_are_those_of_the_modules():
    """One layer of three has no adapter, and the scalings differ."""
    torch.manual_seed(0)
    block = nn.ModuleDict({name: nn.Linear(6, rows) for name, rows in (("a", 4), ("b", 2), ("c", 2))})
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["a", "c"], rank_pattern={"c": 3}, init_lora_weights=False)
    block = inject_adapter_in_model(config, block).eval()
    x = torch.randn(5, 1, 6)
    with torch.no_grad():
        fused = FusedLinear(list(block.values()), torch.float32)
        assert fused.widths == [4, 2, 2] and fused.down.shape == (5, 6)
        torch.testing.assert_close(fused(x), torch.cat([module(x) for module in block.values()], dim=-1))


def test_in_an_evaluation_on_a_cpu_the_products_are_those_of_onednn(kitchen):
    policy, x = perturb(load_policy(LORA)), torch.randn(64, 1, 192)
    with torch.no_grad():
        expected = SamplingWeights.of(policy).layers[0].qkv(x)
        with onednn_linears(policy.model), CountOperators() as operators:
            found = SamplingWeights.of(policy).layers[0].qkv(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert operators.seen["_linear_pointwise"] == torch.backends.mkldnn.is_available()


def test_a_token_is_rotated_to_the_same_bits():
    generator = torch.Generator().manual_seed(0)
    x, cos, sin = (torch.randn(shape, generator=generator) for shape in ((5, 3, 1, 8), (5, 1, 8), (5, 1, 8)))
    assert torch.equal(rotate_token(x, *rotation_of_token(cos, sin)), rotate(x, cos, sin))


@torch.no_grad()
def operators_of_a_layer(policy, prompts, weights):
    """How many operators a layer takes for a token, in the cache of a GPU."""
    with policy.precision():
        prefilled = prefill(policy, encode_all(policy, prompts[:1]), no_timer)
        cache = CudaGraphCache(policy, prefilled.cache, prefilled.attention_mask, prefilled.next_positions, 2, weights)
        cache.decode(torch.tensor([5, 6]))  # autocast casts the weights
        with CountOperators() as operators:
            cache.decode(torch.tensor([7, 8]))
    return operators.seen.total() / len(policy.model.model.language_model.layers)


@pytest.mark.parametrize(("setting", "most"), [([], 0.9), ([LORA], 0.6)], ids=["all weights", "lora"])
def test_a_layer_launches_less(prompts, setting, most):
    policy = load_policy(BF16, *setting)
    own = operators_of_a_layer(policy, prompts, None)
    fused = operators_of_a_layer(policy, prompts, SamplingWeights.of(policy))
    assert fused < most * own, f"{fused} of {own}"
