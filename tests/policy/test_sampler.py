"""Sampling: equal to transformers' own `generate`, and the properties of the random numbers."""

from dataclasses import replace
from functools import partial
from itertools import chain

import pytest
import torch
from accelerate import Accelerator
from torch.utils._python_dispatch import _disable_current_modes

from rlvid import api
from rlvid.data.prompts import prompts_of_step
from rlvid.errors import UserError
from rlvid.policy.decoding import LowPrecision, SharedPrefixCache
from rlvid.policy.graph_cache import CudaGraphCache
from rlvid.policy.model import Policy
from rlvid.policy.patches import Patches
from rlvid.policy.prefill import prefill
from rlvid.policy.sampler import sample_tokens, seeded_uniforms
from rlvid.trainer.metrics import MetricAccumulator
from rlvid.types import Batch
from tests.helpers.operators import CountOperators
from tests.helpers.policies import load_policy
from tests.helpers.sampling import encode_all, generate_greedily, make_sampler, no_timer

# A cache that is full, and moves its rows to a new one, every five tokens.
SmallCudaGraphCache = partial(CudaGraphCache, free_columns=5)
MOST_OPERATORS = 17  # for a token, outside of the graph


def completions_of(groups):
    return list(chain(*groups))


@pytest.fixture(scope="module")
def mixed_prompts(prompts):
    """Prompts with video and image, image only, video only, and neither: of different lengths in one batch."""
    both, image = prompts[0], prompts[-1]
    return [both, image, replace(both, id="v", image=None), replace(image, id="t", image=None), *prompts[1:4]]


@pytest.fixture(scope="module")
def expected_tokens(policy, mixed_prompts):
    """The tokens of transformers' own greedy completions."""
    inputs = encode_all(policy, mixed_prompts)
    return [generate_greedily(policy, *row) for row in zip(mixed_prompts, inputs, strict=True)]


@pytest.mark.parametrize("cache_type", [SharedPrefixCache, CudaGraphCache, SmallCudaGraphCache])
def test_greedy_decoding_equals_transformers_generate(policy, mixed_prompts, expected_tokens, cache_type):
    sampler = make_sampler(policy, cache_type, temperature=0.0, num_generations=2)
    groups = sampler(mixed_prompts, encode_all(policy, mixed_prompts), "seed")
    for group, expected in zip(groups, expected_tokens, strict=True):
        assert [list(completion.tokens) for completion in group] == [expected, expected]


@pytest.mark.parametrize("cache_type", [CudaGraphCache, SmallCudaGraphCache])
def test_both_caches_sample_the_same_completions(policy, mixed_prompts, cache_type):
    inputs = encode_all(policy, mixed_prompts)
    shared, fixed = (
        completions_of(make_sampler(policy, cache, max_completion_length=64)(mixed_prompts, inputs, "7"))
        for cache in (SharedPrefixCache, cache_type)
    )
    assert len({len(completion.tokens) for completion in shared}) > 1, "rows end one by one, and so do groups"
    for one, other in zip(shared, fixed, strict=True):
        assert one.tokens == other.tokens and one.logps == pytest.approx(other.logps, abs=1e-4)


def test_a_prompts_cache_is_stored_once_and_dropped_with_its_last_completion(policy, prompts):
    prefilled = prefill(policy, encode_all(policy, prompts[:3]), no_timer)
    cache = SharedPrefixCache(policy, prefilled.cache, prefilled.attention_mask, prefilled.next_positions, count=4)
    assert {len(keys) for keys, _ in cache.prompt_layers} == {3}
    active = torch.ones(12, dtype=torch.bool)
    active[[0, 1, 2, 3, 5]] = False  # all completions of the first prompt, and one of the second
    with torch.no_grad():
        assert cache.drop_finished(active).tolist() == [4, 6, 7, 8, 9, 10, 11]
        assert {len(keys) for keys, _ in cache.prompt_layers} == {2}
        assert cache.slots.tolist() == [0, 2, 3, 4, 5, 6, 7]
        assert cache.decode(torch.full((7,), 5)).shape == (7, prefilled.hidden.shape[1])


@torch.no_grad()
def test_a_rows_states_are_the_same_with_and_without_ended_rows(policy, prompts):
    prefilled = prefill(policy, encode_all(policy, prompts[:2]), no_timer)
    whole, dropped = (
        SharedPrefixCache(policy, prefilled.cache, prefilled.attention_mask, prefilled.next_positions, count=3)
        for _ in range(2)
    )
    remaining = dropped.drop_finished(torch.tensor([True, False, True, True, True, False]))
    for tokens in (torch.arange(5, 11), torch.arange(11, 17)):
        states = whole.decode(tokens)[remaining]
        torch.testing.assert_close(dropped.decode(tokens[remaining]), states, rtol=1e-5, atol=1e-5)


def test_finished_rows_are_not_computed(policy, prompts):
    inputs = encode_all(policy, prompts)
    decoded_rows = {}
    for cache_type in (SharedPrefixCache, SmallCudaGraphCache):
        batch_sizes = []
        activation = policy.model.model.language_model.layers[0].mlp.act_fn
        hook = activation.register_forward_pre_hook(lambda _, args, sizes=batch_sizes: sizes.append(len(args[0])))
        groups = make_sampler(policy, cache_type, max_completion_length=64)(prompts, inputs, "7")
        hook.remove()
        prefill, *decoding = batch_sizes
        assert prefill == len(prompts), "each prompt is prefilled once"
        decoded_rows[cache_type] = sum(decoding)
    lengths = [len(completion.tokens) for completion in completions_of(groups)]
    assert min(lengths) < max(lengths)
    assert decoded_rows[SharedPrefixCache] == sum(length - 1 for length in lengths)
    assert decoded_rows[SmallCudaGraphCache] < 2 * sum(lengths)


def test_a_half_precision_cache_changes_no_bit_under_autocast(policy, prompts, monkeypatch):
    autocast = Policy(policy.model, policy.tokenizer, policy.frames, bf16=True)
    inputs = encode_all(policy, prompts)
    half = completions_of(make_sampler(autocast)(prompts, inputs, "7"))
    with torch.no_grad(), autocast.precision():
        prefilled = prefill(autocast, inputs, no_timer)
    assert prefilled.cache.layers[0].keys.dtype == torch.bfloat16
    monkeypatch.setattr(LowPrecision, "update", lambda self, *args: super(LowPrecision, self).update(*args))
    full = completions_of(make_sampler(autocast)(prompts, inputs, "7"))
    assert [(c.tokens, c.logps) for c in half] == [(c.tokens, c.logps) for c in full]


def test_a_completion_does_not_depend_on_its_batch(policy, prompts):
    sampler = make_sampler(policy)

    def tokens(prompts, seed):
        return [[c.tokens for c in group] for group in sampler(prompts, encode_all(policy, prompts), seed)]

    (alone,) = tokens(prompts[2:3], "7|3")
    assert alone == tokens(prompts, "7|3")[2]
    assert [alone] != tokens(prompts[2:3], "7|4"), "but on the seed"


def test_a_prompt_that_occurs_again_in_a_step_has_other_completions(policy, prompts):
    """Three prompts, seven places in a step: the first time has the numbers of the prompt, alone or in any batch."""
    sampler, planned = make_sampler(policy), prompts_of_step(prompts[:3], 1, 7, seed=0)
    assert [prompt.repeat for prompt in planned] == [0, 0, 0, 1, 1, 1, 2]
    groups = sampler(planned, encode_all(policy, planned), "7|1")
    tokens = [tuple(completion.tokens for completion in group) for group in groups]
    assert len(set(tokens)) == 7
    for prompt, expected in zip(planned, tokens, strict=True):
        (alone,) = sampler([prompt], encode_all(policy, [prompt]), "7|1")
        assert tuple(completion.tokens for completion in alone) == expected
    assert planned[0].sampling_key == planned[0].id, "the first time has the numbers that it always had"


def test_sampled_logps_are_those_of_the_learner(policy, prompts):
    inputs = encode_all(policy, prompts[:3])
    groups = make_sampler(policy, temperature=0.8)(prompts[:3], inputs, "x")
    with torch.no_grad():
        logps = policy(inputs, groups, 0.8).logps
    for row, completion in zip(logps, completions_of(groups), strict=True):
        assert row[: len(completion.tokens)].tolist() == pytest.approx(completion.logps, abs=1e-4)


def test_completions_end_with_the_end_token_or_are_marked_as_cut_off(policy, prompts):
    groups = make_sampler(policy, max_completion_length=3)(prompts, encode_all(policy, prompts), "x")
    for completion in completions_of(groups):
        assert completion.finished == (completion.tokens[-1] == policy.tokenizer.eos_token_id)
        assert not set(completion.tokens) & set(policy.banned_token_ids)
        assert "<|im_end|>" not in completion.text


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_nan_are_refused_with_the_sample(policy, prompts, temperature):
    """Pixels that are no numbers break one of two prompts."""
    whole, broken = encode_all(policy, prompts[:2])
    broken = replace(broken, patches=Patches([torch.full_like(broken.pixel_values, torch.nan)], broken.patches.empty))
    sampler = make_sampler(policy, temperature=temperature)
    with pytest.raises(UserError, match=rf"^sample {prompts[1].id}: the logits of token 0 of a completion are NaN"):
        sampler(prompts[:2], [whole, broken], "seed")


def frequencies(logps, draws, top_p=1.0):
    """How often each token is sampled."""
    uniforms = seeded_uniforms(draws, 1, "key")[:, 0]
    tokens = sample_tokens(logps.expand(draws, -1), uniforms, top_p)
    return torch.bincount(tokens, minlength=len(logps)) / draws


def test_tokens_are_sampled_by_their_probabilities():
    probs = torch.tensor([0.5, 0.25, 0.0, 0.2, 0.05, 0.0])
    sampled = frequencies(probs.log(), draws=20_000)
    assert torch.allclose(sampled, probs, atol=0.015) and sampled[2] == sampled[5] == 0


def test_top_p_keeps_the_most_likely_tokens_only():
    sampled = frequencies(torch.tensor([0.05, 0.5, 0.25, 0.2]).log(), draws=5_000, top_p=0.7)
    assert torch.allclose(sampled, torch.tensor([0.0, 2 / 3, 1 / 3, 0.0]), atol=0.03)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_a_token_of_probability_zero_is_never_sampled(uniform):
    logps = torch.tensor([[0.0, 0.3, 0.7, 0.0]]).log()
    assert sample_tokens(logps, torch.tensor([uniform], dtype=torch.float64)).item() in (1, 2)


def tokens_by_definition(logps, uniforms, top_p):
    """The token at which the sum of probabilities, written out in float64, exceeds each random number."""
    probs, order = logps.double().exp(), torch.arange(logps.shape[-1]).expand_as(logps)
    if top_p < 1:
        probs, order = probs.sort(descending=True, dim=-1)
        probs = torch.where(probs.cumsum(-1) - probs < top_p, probs, 0.0)
    cdf = probs.cumsum(-1)
    last = (probs > 0).long().cumsum(-1).argmax(-1, keepdim=True)  # the last possible token
    token = torch.searchsorted(cdf, uniforms[:, None] * cdf[:, -1:], right=True).minimum(last)
    return order.gather(-1, token)[:, 0].tolist()


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_sampled_tokens_are_those_of_the_definition(top_p):
    """Also at the ends of the random numbers, where the product with the total must not round up to it."""
    logits = 3 * torch.randn(2_000, 300, generator=torch.Generator().manual_seed(0)).bfloat16().float()  # with ties
    logits[:, ::7] = logits[:, -5:] = -torch.inf
    logps, ends = logits.log_softmax(-1), torch.tensor([0.0, 2**-53, 1 - 2**-53], dtype=torch.float64)
    for uniforms in (seeded_uniforms(len(logps), 1, "key")[:, 0], *(end.expand(len(logps)) for end in ends)):
        tokens = sample_tokens(logps, uniforms, top_p)
        assert tokens.tolist() == tokens_by_definition(logps, uniforms, top_p)
        assert logps.gather(-1, tokens[:, None]).isfinite().all(), "no token of probability 0"


def test_a_sum_in_float32_would_lose_tokens():
    """Why the sum is in float64: over the vocabulary of Qwen, float32 would never sample a quarter of the tokens."""
    logps = (3 * torch.randn(1, 152_064, generator=torch.Generator().manual_seed(0))).log_softmax(-1)
    probs = logps.exp()
    never = probs.cumsum(-1).diff(dim=-1, prepend=torch.zeros(1, 1)) == 0
    assert never.sum() > 38_000 and probs[never].sum() > 2e-4
    token = never.nonzero()[0, 1]
    below = logps.double().exp()[0, :token].sum() / logps.double().exp().sum()
    assert sample_tokens(logps, below[None] + 1e-12).item() == token


def test_few_operators_run_for_a_token_outside_of_the_graph(prompts, monkeypatch):
    """What a GPU launches for a token beside the replay of the graph, counted on a CPU."""
    policy = load_policy("train.dtype=bfloat16")
    policy.banned_token_ids = [*policy.banned_token_ids, policy.tokenizer.eos_token_id]  # no row ends
    decode = CudaGraphCache._decode

    def uncounted(self):
        with _disable_current_modes():
            decode(self)

    monkeypatch.setattr(CudaGraphCache, "_decode", uncounted)
    inputs, counts = encode_all(policy, prompts[:2]), []
    for length in (17, 49):
        sampler = make_sampler(policy, CudaGraphCache, max_completion_length=length)
        sampler.finished_interval = 8
        with CountOperators() as operators:
            groups = sampler(prompts[:2], inputs, "7")
        assert {len(completion.tokens) for completion in completions_of(groups)} == {length}
        counts.append(operators.seen)
    per_token = (counts[1].total() - counts[0].total()) / 32
    assert per_token < MOST_OPERATORS, counts[1] - counts[0]


def test_on_policy_training_needs_one_forward_pass(monkeypatch, tmp_path):
    batch_sizes, forward = [], Policy.forward

    def counting_forward(self, prompts, *args):
        batch_sizes.append(len(prompts))
        return forward(self, prompts, *args)

    monkeypatch.setattr(Policy, "forward", counting_forward)
    small = ["train.max_steps=1", "train.prompts_per_step=3", "train.max_completion_length=40", "eval.limit=1"]
    small += ["eval.transfer=[]"]
    metrics = api.train("nano", small, tmp_path / "once")
    assert batch_sizes.count(3) == 1
    name = "sampling/sampling_logp_difference"
    assert 0 < metrics[f"{name}/mean"] < metrics[f"{name}/max"] < 1e-4
    metrics = api.train("nano", [*small, "algorithm.num_iterations=2"], tmp_path / "twice")
    assert batch_sizes.count(3) == 1 + 3, "once for the old log-probabilities, and once in each iteration"
    assert metrics[f"{name}/max"] < 1e-4


def test_the_mismatch_is_measured_on_unpadded_tokens_before_the_first_update():
    metrics, mask = MetricAccumulator(), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    batch = Batch(mask, mask, mask, sampled_logps=torch.tensor([[-1.0, -2.0], [-3.0, 0.0]]))
    metrics.add_sampler_difference(batch, torch.tensor([[-1.5, -2.0], [-2.0, -9.0]]))
    metrics.add_sampler_difference(replace(batch, old_logps=batch.sampled_logps), torch.full((2, 2), -7.0))
    metrics.add_sum("loss", torch.zeros(()))
    metrics.add_grad_norm(torch.zeros(()))
    means = metrics.means(Accelerator())
    assert means["sampling/sampling_logp_difference/mean"] == pytest.approx(1.5 / 6)
    assert means["sampling/sampling_logp_difference/max"] == 1.0
