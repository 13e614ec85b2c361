"""Rollouts: exactness against transformers' own generate, and the laws that the draws keep."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import chain

import pytest
import torch
from accelerate import Accelerator

from rlvid import api
from rlvid.config import load
from rlvid.policy.decoding import CudaGraphCache, LowPrecision, SharedPrefixCache
from rlvid.policy.model import Policy
from rlvid.policy.sampler import Sampler, sample_tokens, seeded_uniforms
from rlvid.trainer.metrics import MetricAccumulator
from rlvid.types import Batch


def sampler(policy, decoding=SharedPrefixCache, **changes):
    train = replace(load("nano").train, max_completion_length=24, num_generations=4)
    made = Sampler(policy, replace(train, **changes), lambda phase: nullcontext())
    made.decoding = decoding
    return made


crowded = partial(CudaGraphCache, room=5)  # resettles every five tokens


def every_shape(prompts):
    """Video and image, image alone, video alone, neither: ragged in one batch."""
    both, image = prompts[0], prompts[-1]
    return [both, image, replace(both, id="v", image=None), replace(image, id="t", image=None), *prompts[1:4]]


def generated(policy, prompt, encoded):
    """Transformers' own greedy reply, token by token."""
    ids, config = encoded.input_ids[None], policy.model.config
    names = {"video": ("pixel_values_videos", "video_grid_thw"), "image": ("pixel_values", "image_grid_thw")}
    kinds = [kind for kind, shown in (("video", prompt.video), ("image", prompt.image)) if shown]
    patches = encoded.pixel_values.split(encoded.grid_thw.prod(-1).tolist())
    pixels = {}
    for kind, rows, grid in zip(kinds, patches, encoded.grid_thw, strict=True):
        pixels |= dict(zip(names[kind], (rows, grid[None]), strict=True))
    reply = policy.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == config.image_token_id).int() + 2 * (ids == config.video_token_id).int(),
        max_new_tokens=24,
        do_sample=False,
        suppress_tokens=policy.banned_token_ids,
        **pixels,
    )
    return reply[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("decoding", [SharedPrefixCache, CudaGraphCache, crowded])
def test_greedy_is_transformers_generate_token_for_token(policy, prompts, decoding):
    asked = every_shape(prompts)
    encoded = [policy.encode(p) for p in asked]
    groups = sampler(policy, decoding, temperature=0.0, num_generations=2)(asked, encoded, "seed")
    for prompt, seen, group in zip(asked, encoded, groups, strict=True):
        expected = generated(policy, prompt, seen)
        assert list(group.completions[0].tokens) == expected == list(group.completions[1].tokens)


@pytest.mark.parametrize("decoding", [CudaGraphCache, crowded])
def test_a_fixed_cache_samples_what_a_growing_one_does(policy, prompts, decoding):
    asked = every_shape(prompts)
    encoded = [policy.encode(p) for p in asked]
    plain, fixed = (
        sampler(policy, d, max_completion_length=64)(asked, encoded, "7") for d in (SharedPrefixCache, decoding)
    )
    assert len({len(c.tokens) for c in chain(*plain)}) > 1, "rows end one by one, and so do groups"
    for one, other in zip(chain(*plain), chain(*fixed), strict=True):
        assert one.tokens == other.tokens and one.logps == pytest.approx(other.logps, abs=1e-4)


def test_a_prompts_keys_and_values_are_held_once_and_let_go_with_its_last_reply(policy, prompts):
    encoded = [policy.encode(p) for p in prompts[:3]]
    cache, hidden, seen, place = sampler(policy)._prefill(encoded)
    step = SharedPrefixCache(policy, cache, seen, place, count=4)
    assert {len(keys) for keys, _ in step.prompts} == {3}
    going = torch.ones(12, dtype=torch.bool)
    going[[0, 1, 2, 3, 5]] = False  # the first prompt's replies, and one of the second's
    with torch.no_grad():
        assert step.keep(going).tolist() == [4, 6, 7, 8, 9, 10, 11]
        assert {len(keys) for keys, _ in step.prompts} == {2} and step.slots.tolist() == [0, 2, 3, 4, 5, 6, 7]
        assert step(torch.full((7,), 5)).shape == (7, hidden.shape[1])


def test_rows_that_have_ended_cost_nothing(policy, prompts):
    encoded = [policy.encode(p) for p in prompts]
    work = {}
    for decoding in (SharedPrefixCache, crowded):
        work[decoding] = []
        count = partial(lambda rows, _, given: rows.append(len(given[0])), work[decoding])
        hook = policy.model.model.language_model.layers[0].register_forward_pre_hook(count)
        groups = sampler(policy, decoding, max_completion_length=64)(prompts, encoded, "7")
        hook.remove()
        assert work[decoding].pop(0) == len(prompts)  # prefilled once per prompt
    lengths = [len(c.tokens) for c in chain(*groups)]
    assert min(lengths) < max(lengths)
    assert sum(work[SharedPrefixCache]) == sum(n - 1 for n in lengths)
    assert sum(work[crowded]) < 2 * sum(lengths)


def test_a_cache_in_half_precision_changes_no_bit_under_autocast(policy, prompts, monkeypatch):
    mixed = Policy(policy.model, policy.tokenizer, policy.frames, mixed=True)
    encoded = [policy.encode(p) for p in prompts]
    lean = sampler(mixed)(prompts, encoded, "7")
    with torch.no_grad(), mixed.precision():
        assert sampler(mixed)._prefill(encoded)[0].layers[0].keys.dtype == torch.bfloat16
    monkeypatch.setattr(LowPrecision, "update", lambda self, *args: super(LowPrecision, self).update(*args))
    full = sampler(mixed)(prompts, encoded, "7")
    assert [(c.tokens, c.logps) for c in chain(*lean)] == [(c.tokens, c.logps) for c in chain(*full)]


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
        assert not set(completion.tokens) & set(policy.banned_token_ids)
        assert "<|im_end|>" not in completion.text


def test_draw_follows_the_probabilities():
    logps = torch.tensor([0.5, 0.25, 0.0, 0.2, 0.05, 0.0]).log().expand(20_000, -1)
    tokens = sample_tokens(logps, seeded_uniforms(20_000, 1, "key")[:, 0])
    share = torch.bincount(tokens, minlength=6) / 20_000
    assert torch.allclose(share, logps[0].exp(), atol=0.015) and share[2] == share[5] == 0


def test_draw_keeps_to_the_nucleus():
    logps = torch.tensor([0.05, 0.5, 0.25, 0.2]).log().expand(5_000, -1)
    share = torch.bincount(sample_tokens(logps, seeded_uniforms(5_000, 1, "k")[:, 0], top_p=0.7), minlength=4) / 5_000
    assert torch.allclose(share, torch.tensor([0.0, 2 / 3, 1 / 3, 0.0]), atol=0.03)


@pytest.mark.parametrize("edge", [0.0, 1 - 2**-53])
def test_draw_never_takes_an_impossible_token(edge):
    logps = torch.tensor([[0.0, 0.3, 0.7, 0.0]]).log()
    assert sample_tokens(logps, torch.tensor([edge], dtype=torch.float64)).item() in (1, 2)


def test_learning_on_policy_takes_no_forward_but_its_own(monkeypatch, tmp_path):
    calls = []
    forward = Policy.forward
    monkeypatch.setattr(
        Policy, "forward", lambda self, prompts, *rest: calls.append(len(prompts)) or forward(self, prompts, *rest)
    )
    small = ["train.max_steps=1", "train.prompts_per_step=3", "train.max_completion_length=40", "eval.limit=1"]
    small += ["eval.transfer=[]"]
    metrics = api.train("nano", small, tmp_path / "once")
    assert calls.count(3) == 1
    name = "sampling/sampling_logp_difference"
    assert 0 < metrics[f"{name}/mean"] < metrics[f"{name}/max"] < 1e-4
    again = api.train("nano", [*small, "algorithm.num_iterations=2"], tmp_path / "twice")
    assert calls.count(3) == 4  # before the first pass, and twice
    assert again[f"{name}/max"] < 1e-4


def test_the_mismatch_is_that_of_unpadded_tokens_before_learning():
    meter, mask = MetricAccumulator(), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    batch = Batch(mask, mask, mask, sampled_logps=torch.tensor([[-1.0, -2.0], [-3.0, 0.0]]))
    meter.mismatch(batch, torch.tensor([[-1.5, -2.0], [-2.0, -9.0]]))
    meter.mismatch(replace(batch, old_logps=batch.sampled_logps), torch.full((2, 2), -7.0))
    meter.total("loss", torch.zeros(()))
    meter.step(torch.zeros(()))
    means = meter.means(Accelerator())
    assert means["sampling/sampling_logp_difference/mean"] == pytest.approx(1.5 / 6)
    assert means["sampling/sampling_logp_difference/max"] == 1.0
