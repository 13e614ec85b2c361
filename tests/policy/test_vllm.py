"""Sampling with vLLM against our own sampler, in the environment of `make test-vllm`."""

import os
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from rlvid import api
from rlvid.config import load
from rlvid.data.prompts import held_out_prompts
from rlvid.errors import UserError
from rlvid.policy import lora
from rlvid.policy.parity import compare
from rlvid.policy.sampler import Sampler, make_sampler
from rlvid.trainer.view_rollouts import ViewSampler
from rlvid.utils.files import read_json, read_jsonl
from tests.helpers.policies import load_policy
from tests.helpers.positions import model_with_published_positions
from tests.helpers.processes import several

vllm = pytest.importorskip("vllm")
from rlvid.policy.vllm import Engine  # noqa: E402

# On a CPU: 1 GiB for keys and values, not a share of the machine's memory; threads are not bound to cores.
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

MODELS = ["nano", "nano/qwen2_5_vl", "nano/qwen3_vl"]
LARGE_FRAMES = ["video.resized_height=112", "video.resized_width=112"]
SETTINGS = ["train.use_vllm=true", *LARGE_FRAMES, "train.max_completion_length=24"]
SMALL_RUN = [*SETTINGS, "train.max_steps=2", "train.prompts_per_step=2", "train.num_generations=4"]
SMALL_RUN += ["eval.limit=2", "eval.transfer=[]"]


def train_section(*overrides):
    return load("nano", [*SETTINGS, *overrides]).train


def held_out(count=6):
    """Prompts with video and image, video only, image only, text only, and others."""
    config = load("nano", SETTINGS)
    levels = held_out_prompts(config.data, config.eval.splits, config.eval.transfer, config.eval.limit)
    both, *others = levels["L1"][:count]
    alone = [replace(both, id="v", image=None), replace(both, id="i", video=None)]
    return [both, *alone, replace(both, id="t", video=None, image=None), *others]


def encode_all(policy, prompts):
    return [policy.encode(prompt) for prompt in prompts]


def greedy_completions(policy, prompts, make):
    """The first completion of each prompt at temperature 0, by a kind of sampler."""
    train = replace(train_section(), num_generations=1, temperature=0.0)
    groups = make(policy, train, lambda phase: nullcontext())(prompts, encode_all(policy, prompts), "seed")
    return [group.completions[0] for group in groups]


def assert_vllm_equals_our_sampler(policy, prompts):
    """Greedy completions and their log-probabilities; returns the tokens."""
    theirs, ours = (greedy_completions(policy, prompts, make) for make in (make_sampler, Sampler))
    for their, our in zip(theirs, ours, strict=True):
        assert (their.tokens, their.text, their.finished) == (our.tokens, our.text, our.finished)
        assert max(abs(a - b) for a, b in zip(their.logps, our.logps, strict=True)) < 1e-4
    return [completion.tokens for completion in ours]


def test_completions_under_views_are_those_of_our_sampler():
    """vLLM is handed the features of the altered clip, so a group may be sampled under several views."""
    policy, prompts = load_policy(*SETTINGS), held_out()[:2]
    train = replace(train_section(), num_generations=2, temperature=0.0)

    def sampled(settings):
        def timer(phase):
            return nullcontext()

        sampler = ViewSampler(make_sampler(policy, settings, timer), policy, settings, timer, lambda prompt, clip: clip)
        groups, inputs = sampler(prompts, encode_all(policy, prompts), "7|1", {"": 1, "noise:800": 1})
        assert all(len(one.views) == 2 for one in inputs)
        return [completion for group in groups for completion in group]

    theirs, ours = sampled(train), sampled(replace(train, use_vllm=False))
    assert [c.view for c in theirs] == ["", "noise:800"] * 2
    for their, our in zip(theirs, ours, strict=True):
        assert their.tokens == our.tokens
        assert max(abs(a - b) for a, b in zip(their.logps, our.logps, strict=True)) < 1e-4
    for clean, noisy in zip(theirs[::2], theirs[1::2], strict=True):
        assert clean.logps[0] != noisy.logps[0], "they saw other pixels"


def take_step(policy, learning_rate):
    """One step of fused AdamW on random gradients: it moves every trainable weight by the learning rate."""
    weights = [weight for weight in policy.model.parameters() if weight.requires_grad]
    torch.manual_seed(0)
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    torch.optim.AdamW(weights, lr=learning_rate, fused=True).step()


@pytest.mark.parametrize("settings", [[], ["train.lora_r=4"]], ids=["full", "lora"])
@pytest.mark.parametrize("model", MODELS)
def test_greedy_completions_are_ours_before_and_after_a_step(model, settings):
    policy, prompts = load_policy(*SETTINGS, f"model={model}", *settings), held_out()
    before = assert_vllm_equals_our_sampler(policy, prompts)
    take_step(policy, 0.02)
    assert assert_vllm_equals_our_sampler(policy, prompts) != before


def test_the_weights_handed_to_vllm_have_the_adapter_merged_in():
    policy = load_policy(*SETTINGS, "train.lora_r=4")
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    merged = dict(lora.merged_weights(policy.model))
    assert merged.keys() == dict(load_policy(*SETTINGS).model.named_parameters()).keys()


def test_stale_weights_are_named_however_small_the_step():
    policy, prompts = load_policy(*SETTINGS), held_out(1)[:2]

    def found():
        checks = compare(policy, prompts, train_section(), after_step=True)
        return {check.name for check in checks if check.difference}

    assert not found()
    [engine] = [Engine.current]
    take_step(policy, 1e-7)
    engine.synced = engine.steps  # as if it had taken over the step
    assert found() == {"weights"}, "log-probabilities do not tell"
    engine.synced = -1
    assert not found()
    take_step(policy, 1e-2)
    engine.synced = engine.steps
    assert found() == {"weights", "sampler"}


def test_a_run_that_samples_from_the_weights_of_its_start_ends_after_the_first_step(tmp_path, monkeypatch):
    sync_weights = Engine.sync_weights
    monkeypatch.setattr(Engine, "sync_weights", lambda engine: None if engine.steps else sync_weights(engine))
    with pytest.raises(UserError, match=r"sample .*: weights: \d+ weights, such as .* are not the policy's") as error:
        api.train("nano", [*SMALL_RUN, "train.learning_rate=1e-7", "rewards.random=1.0"], tmp_path / "run")
    assert "\n" not in str(error.value)


def test_completions_depend_on_the_seed_and_have_the_learners_logps():
    policy, prompts = load_policy(*SETTINGS), held_out(4)
    inputs = encode_all(policy, prompts)
    sample = make_sampler(policy, train_section("train.temperature=0.7"), lambda phase: nullcontext())
    first, again, other = (sample(prompts, inputs, seed) for seed in ("a", "a", "b"))
    texts = [[[c.text for c in group] for group in groups] for groups in (first, again, other)]
    assert texts[0] == texts[1] != texts[2] and len({text for group in texts[0] for text in group}) > 4
    with torch.no_grad():
        learner_logps = policy(inputs, first, 0.7).logps
    sampled_logps = [torch.tensor(completion.logps) for group in first for completion in group]
    for row, sampled in zip(learner_logps, sampled_logps, strict=True):
        assert (row[: len(sampled)] - sampled).abs().max() < 1e-4
    sampled_tokens = {token for group in first for completion in group for token in completion.tokens}
    assert not sampled_tokens & set(policy.banned_token_ids)


@pytest.mark.parametrize("model", MODELS)
def test_a_run_trains_on_its_completions(model, tmp_path):
    api.train("nano", [*SMALL_RUN, f"model={model}"], tmp_path / "run")
    for row in read_jsonl(tmp_path / "run" / "metrics.jsonl"):
        assert row["sampling/sampling_logp_difference/max"] < 1e-4 and row["completions/mean_length"] > 1


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_two_processes_sample_their_own_prompts_with_an_engine_each(stage, tmp_path):
    """Under DDP and DeepSpeed, three prompts on two processes: no engine keeps the weights of an earlier step."""
    settings = [*SMALL_RUN, "train.prompts_per_step=3", "train.max_completion_length=12", "rewards.random=1.0"]
    settings += ["train.max_tokens_per_forward=1"]
    for child in several(tmp_path / "run", *settings, zero=stage):
        code, log = child.end()
        assert code == 0, log
    assert read_json(tmp_path / "run/environment.json")["processes"] == 2
    rows = read_jsonl(tmp_path / "run/metrics.jsonl")
    assert [row["num_prompts"] for row in rows] == [3, 6] and rows[0]["grad_norm"] > 0
    assert max(row["sampling/sampling_logp_difference/max"] for row in rows) < 1e-4


def test_a_long_video_has_the_positions_of_vllm(tmp_path):
    """Four pairs of frames of 2 x 2 visual tokens, shown to a model with the published positions."""
    policy = load_policy(f"model={model_with_published_positions(tmp_path)}")
    assert_vllm_equals_our_sampler(policy, held_out(3))


def test_a_video_that_gives_nano_and_vllm_different_positions_is_refused(tmp_path):
    with pytest.raises(UserError, match="at most as long in positions"):
        api.train("nano", ["train.use_vllm=true", "train.max_steps=1", "eval.limit=1"], tmp_path / "run")
