"""Prefill: prompts run through the model once, which gives their keys and values and the state after the last token.

Prompts are padded on the right. No token attends to what comes after it, so prefill needs no mask: PyTorch can use its
fastest kernels, and no row of the attention is without a key, from which some kernels make NaN. The last layer is
computed for the last token of each prompt only; this one query has a mask where prompts differ in length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from rlvid.policy.decoding import LowPrecisionDynamicCache
from rlvid.policy.last_layer import only_columns
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

    def map_states(self, function: Callable[[Tensor], Tensor]) -> Prefilled:
        """Return the prompts with a function applied to the keys and values of each layer and to the last states."""
        cache = copy(self.cache)
        cache.layers = [copy(layer) for layer in self.cache.layers]
        for layer in cache.layers:
            layer.keys, layer.values = function(layer.keys), function(layer.values)
        return replace(self, cache=cache, hidden=function(self.hidden))

    def select(self, rows: Sequence[int]) -> Prefilled:
        """Return some of the prompts, by their numbers, padded to the longest of them."""
        if list(rows) == list(range(len(self.hidden))):
            return self
        index = torch.tensor(rows, device=self.hidden.device)
        mask = self.attention_mask[index]
        longest = int(mask.sum(1).max())

        def choose(states: Tensor) -> Tensor:
            chosen = states.index_select(0, index)
            return chosen if states is self.hidden else chosen[:, :, :longest]

        chosen = self.map_states(choose)
        return replace(chosen, attention_mask=mask[:, :longest], next_positions=self.next_positions[index])


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
        first_columns = torch.arange(len(inputs), device=attention_mask.device) * attention_mask.shape[1]
        last_columns = first_columns + attention_mask.sum(1) - 1
        is_padded = len({len(prompt.input_ids) for prompt in inputs}) > 1
        attend = partial(_attend_from_last, attention_mask.bool()[:, None, None] if is_padded else None)
        with only_columns(language_model, last_columns, attend):
            hidden = language_model(
                **embeds.model_arguments(),
                attention_mask=None,
                position_ids=positions.permute(2, 0, 1),
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[0]
    next_positions = torch.tensor([prompt.next_position for prompt in inputs], device=hidden.device)
    return Prefilled(cache, hidden, attention_mask, next_positions)


def _merge(chunks: Sequence[Prefilled]) -> Prefilled:
    """Put the prompts of all chunks into one; without gradients a chunk's keys and values are freed layer by layer."""
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


def _attend_from_last(mask: Tensor | None, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attention of each prompt's last token, (P, heads, D), over (P, key heads, L, D) keys and values (`last_layer`).

    The mask, (P, 1, 1, L), leaves out padding: a causal one has no meaning for a single query.
    """
    by_key_head = query.unflatten(1, (key.shape[1], -1))  # (P, key heads, queries per key, D)
    return scaled_dot_product_attention(by_key_head, key, value, attn_mask=mask, scale=scale).flatten(1, 2)


def pad_right(rows: Sequence[Tensor]) -> Tensor:
    """Stack (L, ...) tensors of several lengths L, padded with 0 on the right."""
    return pad_sequence(list(rows), batch_first=True)
