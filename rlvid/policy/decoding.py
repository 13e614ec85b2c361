"""The caches of a rollout: keys and values of prompts and of the tokens generated so far.

`SharedPrefixCache` is for CPUs, `graph_cache.CudaGraphCache` for GPUs. Both start from the prefilled prompts, have one
row per completion, and are used alike. `drop_finished` removes rows that have ended, and `decode` runs one token of
each row through the model. R is the number of rows at the time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache

from rlvid.policy.model import Policy
from rlvid.policy.packing import UNUSED_MASK
from rlvid.policy.sampling_weights import SamplingWeights
from rlvid.policy.shared_attention import attention_with_lse, merge


class LowPrecision:
    """Stores keys and values in the precision that autocast would cast them to: the same bits in half the memory."""

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values, (B, heads, T, D), to a layer as `transformers.Cache.update` does; return all."""
        return super().update(cast_to_autocast(keys), cast_to_autocast(values), *args, **kwargs)  # type: ignore[misc]


def cast_to_autocast(x: Tensor) -> Tensor:
    """Cast a tensor as autocast would, if it is enabled."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


class LowPrecisionDynamicCache(LowPrecision, DynamicCache):
    """A cache that grows with every token."""


class LowPrecisionStaticCache(LowPrecision, StaticCache):
    """A cache of fixed size."""


class SharedPrefixCache:
    """Keys and values of each prompt once, and those of its completions, which grow with every token.

    Two prompts of 3 and 4 tokens with count = 3 completions each, after 2 tokens; completion 1 has ended:

        prompts (P rows)    completions (R rows)    slots (R,)
          A B C .             d e                     0
                              f g                     2
          W X Y Z             u v                     3
                              s t                     4
                              q r                     5

    A row's slot is its number among all P * count completions, so slot // count is its prompt.

    Attention to a prompt is one product for all completions of its group (Hydragen, arXiv:2402.05099). It is merged
    with a completion's attention to itself by the log-sum-exp of both parts, so what is read for each token does not
    grow with the group.

    Args:
        policy: its language model decodes.
        prompt_cache: of P prefilled prompts of up to L tokens, padded on the right.
        attention_mask: (P, L), 1 on prompt tokens and 0 on padding.
        next_positions: (P,), the position of the first completion token.
        count: completions of each prompt.
        weights: decode in place of the model's own layers.
    """

    def __init__(
        self,
        policy: Policy,
        prompt_cache: DynamicCache,
        attention_mask: Tensor,
        next_positions: Tensor,
        count: int,
        weights: SamplingWeights | None = None,
    ) -> None:
        self.policy, self.count, self.weights = policy, count, weights
        self.positions = next_positions.repeat_interleave(count)  # (R,): of each row's next token
        self.slots = torch.arange(len(self.positions), device=next_positions.device)
        self.completion_cache = LowPrecisionDynamicCache(config=policy.model.config.text_config)
        self.prompt_layers = [(layer.keys, layer.values) for layer in prompt_cache.layers]  # (P, key heads, L, D) each
        self.padding_bias: Tensor | None = None  # (P, 1, 1, L): -inf on padding
        if not attention_mask.all():
            zeros = torch.zeros(attention_mask.shape)
            self.padding_bias = zeros.masked_fill(attention_mask == 0, -torch.inf)[:, None, None]

    def drop_finished(self, active: Tensor) -> Tensor:
        """Drop the rows that are not active, (R,) bool; return the indices of the rows that remain."""
        remaining = active.nonzero()[:, 0]
        if len(remaining) < len(active):
            self.positions, self.slots = self.positions[remaining], self.slots[remaining]
            self.completion_cache.batch_select_indices(remaining)
            self._drop_finished_prompts()
        return remaining

    def _drop_finished_prompts(self) -> None:
        """Drop the prompts without a row, and renumber the slots: prompt 1 becomes prompt 0 if all of 0 has ended.

        They stay until they are a quarter of all prompts, because the others are copied.
        """
        remaining, prompt_of_row = torch.unique(self.slots // self.count, return_inverse=True)
        if 4 * len(remaining) <= 3 * len(self.prompt_layers[0][0]):
            self.slots = prompt_of_row * self.count + self.slots % self.count
            self.prompt_layers = [(keys[remaining], values[remaining]) for keys, values in self.prompt_layers]
            self.padding_bias = None if self.padding_bias is None else self.padding_bias[remaining]

    def decode(self, tokens: Tensor) -> Tensor:
        """(R,) the next token of each row -> (R, hidden), the states after them."""
        hidden = decode_step(
            self.policy, self.weights, self.completion_cache, tokens, UNUSED_MASK, self.positions, attend_with=self
        )
        self.positions = self.positions + 1
        return hidden

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Attention of one layer for one token per row (see `packing.attend_packed`).

        Args:
            layer: the layer's index.
            query: (R, heads, 1, D).
            key, value: (R, key heads, T, D), of the T completion tokens so far.
            scale: of the scores; None is 1 / sqrt(D).

        Returns:
            (R, 1, heads, D).
        """
        prompt_key, prompt_value = self.prompt_layers[layer]
        query, key, value, prompt_key, prompt_value = (
            cast_to_autocast(x) for x in (query, key, value, prompt_key, prompt_value)
        )
        key_heads, head_size = key.shape[1], query.shape[-1]
        query = query.reshape(len(query), key_heads, -1, head_size)  # (R, key heads, queries per key, D)

        # All queries of a group together: (P, key heads, count * queries per key, D). Ended rows have zeros.
        group_query, all_rows = query, len(prompt_key) * self.count
        if len(query) < all_rows:
            group_query = query.new_zeros(all_rows, *query.shape[1:]).index_copy(0, self.slots, query)
        group_query = group_query.unflatten(0, (-1, self.count)).transpose(1, 2).flatten(2, 3)
        bias = self.padding_bias
        if bias is not None:
            bias = bias.expand(-1, 1, group_query.shape[2], -1).to(query.dtype)
        on_prompt = attention_with_lse(group_query, prompt_key, prompt_value, attn_mask=bias, scale=scale)
        prompt_output, prompt_lse = (self._by_row(x) for x in on_prompt)
        own_output, own_lse = attention_with_lse(query, key, value, scale=scale)

        output = merge(prompt_output, prompt_lse, own_output, own_lse)
        return output.to(query.dtype).flatten(1, 2)[:, None]

    def _by_row(self, x: Tensor) -> Tensor:
        """(P, key heads, count * queries per key, ...) -> (R, key heads, queries per key, ...)."""
        rows = x.unflatten(2, (self.count, -1)).transpose(1, 2).flatten(0, 1)
        return rows if len(rows) == len(self.slots) else rows.index_select(0, self.slots)  # all, if none has ended


def decode_step(
    policy: Policy,
    weights: SamplingWeights | None,
    cache: DynamicCache | StaticCache,
    tokens: Tensor,
    mask: Tensor,
    positions: Tensor,
    attend_with: SharedPrefixCache | None = None,
) -> Tensor:
    """Run one token of each row through the language model.

    Args:
        policy: its language model and embeddings are used.
        weights: used in their place, if given.
        cache: keys and values of the row's earlier tokens; those of the new ones are added.
        tokens, positions: (R,).
        mask: (R, 1, 1, columns) bool.
        attend_with: computes the attention itself, without the mask.

    Returns:
        (R, hidden), the states after the tokens.
    """
    if weights:
        return weights.decode(cache, tokens, mask, positions, attend_with)
    return policy.model.model.language_model(
        inputs_embeds=policy.model.get_input_embeddings()(tokens[:, None]),
        attention_mask=mask,
        attend_with=attend_with,
        position_ids=positions.expand(3, -1)[:, :, None],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state[:, -1]
