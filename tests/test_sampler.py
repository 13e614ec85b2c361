"""Rollouts: exactness against transformers' own generate, and the laws that the draws keep."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from rlvid.config import load
from rlvid.policy.sampler import Sampler, draw, uniform


def sampler(policy, **changes):
    train = replace(load("nano").train, max_completion_length=24, num_generations=4)
    return Sampler(policy, replace(train, **changes), lambda phase: nullcontext())


def test_greedy_is_transformers_generate_token_for_token(policy, prompts):
    encoded = [policy.encode(p) for p in prompts]
    groups = sampler(policy, temperature=0.0, num_generations=2)(prompts, encoded, "seed")
    config = policy.model.config
    for prompt, group in zip(encoded, groups, strict=True):
        counts = prompt.grids.prod(-1)
        videos, images = prompt.patches.split([int(counts[:-1].sum()), int(counts[-1])])
        video = {"pixel_values_videos": videos, "video_grid_thw": prompt.grids[:-1]} if len(videos) else {}
        ids = prompt.ids[None]
        expected = policy.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == config.image_token_id).int() + 2 * (ids == config.video_token_id).int(),
            pixel_values=images,
            image_grid_thw=prompt.grids[-1:],
            max_new_tokens=24,
            do_sample=False,
            suppress_tokens=policy.never,
            **video,
        )[0, ids.shape[1] :].tolist()
        assert list(group.completions[0].tokens) == expected == list(group.completions[1].tokens)


def test_a_sample_does_not_depend_on_its_batch(policy, prompts):
    act = sampler(policy)
    together = act(prompts, [policy.encode(p) for p in prompts], "7|3")
    alone = act(prompts[2:3], [policy.encode(prompts[2])], "7|3")
    assert [c.tokens for c in alone[0]] == [c.tokens for c in together[2]]
    assert [c.tokens for c in act(prompts[2:3], [policy.encode(prompts[2])], "7|4")[0]] != [c.tokens for c in alone[0]]


def test_sampled_logps_are_the_learners(policy, prompts):
    encoded = [policy.encode(p) for p in prompts[:3]]
    groups = sampler(policy, temperature=0.8)(prompts[:3], encoded, "x")
    with torch.no_grad():
        logps = policy(encoded, groups, 0.8).logps
    for row, completion in zip(logps, (c for g in groups for c in g), strict=True):
        assert row[: len(completion.tokens)].tolist() == pytest.approx(completion.logps, abs=1e-4)


def test_completions_end_or_are_marked_as_cut(policy, prompts):
    groups = sampler(policy, max_completion_length=3)(prompts, [policy.encode(p) for p in prompts], "x")
    end = policy.tokenizer.eos_token_id
    for completion in (c for g in groups for c in g):
        assert completion.finished == (completion.tokens[-1] == end)
        assert not set(completion.tokens) & set(policy.never)
        assert "<|im_end|>" not in completion.text


def test_draw_follows_the_probabilities():
    logps = torch.tensor([0.5, 0.25, 0.0, 0.2, 0.05, 0.0]).log().expand(20_000, -1)
    tokens = draw(logps, uniform(20_000, 1, "key")[:, 0])
    share = torch.bincount(tokens, minlength=6) / 20_000
    assert torch.allclose(share, logps[0].exp(), atol=0.015) and share[2] == share[5] == 0


def test_draw_keeps_to_the_nucleus():
    logps = torch.tensor([0.05, 0.5, 0.25, 0.2]).log().expand(5_000, -1)
    share = torch.bincount(draw(logps, uniform(5_000, 1, "k")[:, 0], top_p=0.7), minlength=4) / 5_000
    assert torch.allclose(share, torch.tensor([0.0, 2 / 3, 1 / 3, 0.0]), atol=0.03)


@pytest.mark.parametrize("edge", [0.0, 1 - 2**-53])
def test_draw_never_takes_an_impossible_token(edge):
    logps = torch.tensor([[0.0, 0.3, 0.7, 0.0]]).log()
    assert draw(logps, torch.tensor([edge], dtype=torch.float64)).item() in (1, 2)
