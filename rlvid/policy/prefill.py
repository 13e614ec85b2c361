"""Prefill: prompts run through the model once, which gives their keys and values and the state after the last token.

Prompts are padded on the right. No token attends to what comes after it, so prefill needs no mask: PyTorch can use its
fastest kernels, and no row of the attention is without a key, from which some kernels make NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from rlvid.policy.decoding import LowPrecisionDynamicCache
from rlvid.policy.model import Policy
from rlvid.policy.types import ModelInputs

PhaseTimer = Callable[[str], AbstractContextManager[None]]  # name of a phase -> context that times it

# Tokens of prompts that are prefilled together, padding included. More of them take more memory and no less time.
MAX_TOKENS = 4096


@dataclass(frozen=True)
class Prefilled:
    """P prompts after prefill, padded on the right to L tokens."""

    cache: DynamicCache  # keys and values
    hidden: Tensor  # (P, hidden): the state after the last token
    attention_mask: Tensor  # (P, L): 1 on tokens, 0 on padding
    next_positions: Tensor  # (P,): the position of the first completion token


def prefill(
    policy: Policy, inputs: Sequence[ModelInputs], timer: PhaseTimer, max_tokens: int = MAX_TOKENS
) -> Prefilled:
    """Run prompts through the model once, in chunks.

    Args:
        policy: the model.
        inputs: the prompts.
        timer: times the phases "vision" and "prefill".
        max_tokens: of a chunk, padding included; a longer prompt is a chunk of its own.
    """
    chunks = [_prefill_chunk(policy, chunk, timer) for chunk in _chunks(inputs, max_tokens)]
    with timer("prefill"):
        return _merge(chunks)


def _chunks(inputs: Sequence[ModelInputs], max_tokens: int) -> Iterator[Sequence[ModelInputs]]:
    """Split prompts, in order, into runs that have at most `max_tokens` tokens when padded."""
    start = longest = 0
    for end, prompt in enumerate(inputs):
        longest = max(longest, len(prompt.input_ids))
        if end > start and longest * (end + 1 - start) > max_tokens:
            yield inputs[start:end]
            start, longest = end, len(prompt.input_ids)
    yield inputs[start:]


def _prefill_chunk(policy: Policy, inputs: Sequence[ModelInputs], timer: PhaseTimer) -> Prefilled:
    with timer("vision"):
        embeds = policy.embed(inputs)
    with timer("prefill"):
        language_model = policy.model.model.language_model
        cache = LowPrecisionDynamicCache(config=policy.model.config.text_config)
        attention_mask = pad_right([torch.ones_like(prompt.input_ids) for prompt in inputs])
        positions = pad_right([prompt.position_ids.T for prompt in inputs])  # (P, L, 3)
        with last_token_only(language_model, attention_mask.sum(1) - 1):
            hidden = language_model(
                **embeds.model_arguments(),
                attention_mask=None,
                position_ids=positions.permute(2, 0, 1),
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, 0]
    next_positions = torch.tensor([prompt.next_position for prompt in inputs], device=hidden.device)
    return Prefilled(cache, hidden, attention_mask, next_positions)


def _merge(chunks: Sequence[Prefilled]) -> Prefilled:
    """Put the prompts of all chunks into one; a chunk's keys and values are freed layer by layer."""
    if len(chunks) == 1:
        return chunks[0]
    first = chunks[0].cache
    for layers in zip(*(chunk.cache.layers for chunk in chunks), strict=True):
        keys, values = (_stack_right([getattr(layer, name) for layer in layers]) for name in ("keys", "values"))
        for layer in layers:
            layer.keys, layer.values = keys, values
    return Prefilled(
        first,
        torch.cat([chunk.hidden for chunk in chunks]),
        pad_right([row for chunk in chunks for row in chunk.attention_mask]),
        torch.cat([chunk.next_positions for chunk in chunks]),
    )


def _stack_right(parts: Sequence[Tensor]) -> Tensor:
    """(P, heads, L, D) tensors of several lengths L -> one of all rows, padded with 0 on the right."""
    longest = max(part.shape[2] for part in parts)
    return torch.cat([pad(part, (0, 0, 0, longest - part.shape[2])) for part in parts])


@contextmanager
def last_token_only(language_model: Any, last: Tensor) -> Iterator[None]:
    """Within this context the model returns the state of each row's last token only, (rows, 1, hidden).

    The last layer's keys and values are those of all columns, but nothing reads the results of its MLP except for the
    last token, so they are not computed. `last`, (rows,), is the column of that token.
    """
    layer = language_model.layers[-1]
    layer.forward = partial(_forward_last_token, layer, last)
    try:
        yield
    finally:
        del layer.forward  # the method of the class is back


def _forward_last_token(layer: Any, last: Tensor, hidden: Tensor, **kwargs: Any) -> Tensor:
    """The forward of a decoder layer, (rows, L, hidden) -> (rows, 1, hidden).

    The layers of all families have this form: Qwen2VLDecoderLayer, Qwen2_5_VLDecoderLayer, Qwen3VLTextDecoderLayer.
    """
    attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden), **kwargs)
    rows = torch.arange(len(last), device=last.device)
    hidden = hidden[rows, last][:, None] + attended[rows, last][:, None]
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def pad_right(rows: Sequence[Tensor]) -> Tensor:
    """Stack (L, ...) tensors of several lengths L, padded with 0 on the right."""
    return pad_sequence(list(rows), batch_first=True)
