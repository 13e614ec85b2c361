"""Attention with a shared prompt against a plain softmax over all keys: values, gradients and memory."""

import pytest
import torch

from rlvid.policy import shared_attention
from rlvid.policy.shared_attention import PromptShape, SharedPromptAttention

# (prompts, completions of each, query heads, key heads, columns of a completion, columns of a prompt)
SIZES = [(1, 8, 6, 2, 5, 16), (3, 4, 6, 3, 7, 20), (2, 1, 4, 4, 1, 3), (1, 3, 4, 2, 4, 600)]


def inputs(prompts, group, heads, key_heads, columns, prompt_columns, head_size=8, dtype=torch.float64):
    rows = prompts * group
    shapes = [(rows, heads, columns), *[(prompts, key_heads, prompt_columns)] * 2, *[(rows, key_heads, columns)] * 2]
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*s, head_size, generator=generator, dtype=dtype, requires_grad=True) for s in shapes]


def padding_bias(prompts, prompt_columns):
    """The first prompt is full, every next one two columns shorter."""
    lengths = prompt_columns - 2 * torch.arange(prompts).clamp(max=prompt_columns // 2)
    padding = torch.arange(prompt_columns) >= lengths[:, None]
    return torch.zeros(padding.shape).masked_fill(padding, -torch.inf)[:, None, None]


def plain_attention(query, prompt_key, prompt_value, own_key, own_value, bias, lag):
    """One softmax over the keys of prompt and completion, with a mask."""
    group, columns = len(query) // len(prompt_key), query.shape[2]
    repeats = query.shape[1] // prompt_key.shape[1]
    key = torch.cat([prompt_key.repeat_interleave(group, 0), own_key], 2).repeat_interleave(repeats, 1)
    value = torch.cat([prompt_value.repeat_interleave(group, 0), own_value], 2).repeat_interleave(repeats, 1)
    on_prompt = torch.zeros(len(query), 1, columns, prompt_key.shape[2], dtype=query.dtype)
    if bias is not None:
        on_prompt = on_prompt + bias.repeat_interleave(group, 0)
    unseen = ~torch.ones(columns, columns, dtype=torch.bool).tril(-lag)
    on_self = torch.zeros(len(query), 1, columns, columns).masked_fill(unseen, -torch.inf)
    scores = query @ key.mT * query.shape[-1] ** -0.5 + torch.cat([on_prompt, on_self], -1)
    return scores.softmax(-1) @ value


@pytest.mark.parametrize("padded", [False, True], ids=["full prompts", "padded prompts"])
@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("sizes", SIZES)
def test_values_and_gradients_are_those_of_one_softmax_over_all_keys(sizes, lag, padded):
    tensors, bias = inputs(*sizes), padding_bias(sizes[0], sizes[-1]) if padded else None
    ours, plain = SharedPromptAttention.apply(*tensors, bias, None, lag), plain_attention(*tensors, bias, lag)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-13)
    grad = torch.randn_like(plain)
    for name, mine, theirs in zip(
        ("query", "prompt key", "prompt value", "own key", "own value"),
        torch.autograd.grad(ours, tensors, grad),
        torch.autograd.grad(plain, tensors, grad),
        strict=True,
    ):
        assert (mine - theirs).abs().max() < 1e-13, name


def test_a_scale_of_its_own_is_used_in_both_passes():
    tensors = inputs(*SIZES[0])
    scaled = [tensors[0] * (0.3 * 8**0.5), *tensors[1:]]  # plain attention divides by the root of the head size, 8
    ours, plain = SharedPromptAttention.apply(*tensors, None, 0.3, 0), plain_attention(*scaled, None, 0)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-13)
    for mine, theirs in zip(
        torch.autograd.grad(ours.sum(), tensors), torch.autograd.grad(plain.sum(), tensors), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


def test_the_parts_of_a_prompts_queries_change_nothing_but_rounding(monkeypatch):
    tensors, results = inputs(*SIZES[1]), []
    for parts in (1, 4, 1000):
        monkeypatch.setattr(shared_attention, "MIN_PARTS", parts)
        results.append(SharedPromptAttention.apply(*tensors, None, None, 0))
        shape = PromptShape(tensors[0], tensors[1])
        assert torch.equal(shape.unfold(shape.fold(tensors[0])), tensors[0])
    assert (results[0] - results[1]).abs().max() < 1e-14 and (results[0] - results[2]).abs().max() < 1e-14


@pytest.mark.parametrize("group", [1, 16])
def test_a_prompts_keys_and_values_are_kept_once(group):
    """A prompt of 1,000 more tokens adds 1,000 keys and values, whatever the number of completions is."""
    kept = [bytes_kept(inputs(1, group, 6, 2, 8, tokens)) for tokens in (1000, 2000)]
    assert kept[1] - kept[0] == 2 * 1000 * 2 * 8 * 8, "2 tensors, 1,000 tokens, 2 key heads of size 8, float64"


def bytes_kept(tensors):
    """What the forward pass keeps for the backward pass."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        SharedPromptAttention.apply(*tensors, None, None, 0)
    return sum(x.nbytes for x in kept)
