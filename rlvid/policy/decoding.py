"""One token after another: what a rollout keeps of its rows between tokens, on a CPU and on a GPU.

Both forms start from the prompts' prefilled cache, of which each row is one of `count` replies, and are used alike:
`keep` lets rows that have ended go, and a call with the rows' tokens, (R,), returns the states after them, (R, hidden).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache

from rlvid.policy.model import Policy

attention_with_lse = (
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
)  # the values, and log-sums of exponentials


class LowPrecision:
    """Keeps keys and values in the precision in which autocast would multiply them: the same bits in half the room."""

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """As transformers' `Cache.update`."""
        return super().update(cast_to_autocast(keys), cast_to_autocast(values), *args, **kwargs)  # type: ignore[misc]


def cast_to_autocast(x: Tensor) -> Tensor:
    """As autocast would have it, where it is on."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class LowPrecisionDynamicCache(LowPrecision, DynamicCache):
    """Transformers' cache that grows."""


class LowPrecisionStaticCache(LowPrecision, StaticCache):
    """Transformers' cache of a fixed size."""


class SharedPrefixCache:
    """Prompts' keys and values, once; and the replies' own, which grow by each token and lose each row that ends.

    Attention to the prompt is one product for all replies of a group (Hydragen, arXiv:2402.05099), merged with the
    replies' own by the two parts' sums of exponentials: what is read for a token does not grow with the group.
    """

    def __init__(self, policy: Policy, prompts: DynamicCache, seen: Tensor, place: Tensor, count: int) -> None:
        """`seen` (P, L): 1 where a prompt stands, 0 on its padding; `place` (P,): where its `count` replies begin."""
        self.policy, self.count, self.slots = policy, count, torch.arange(len(place) * count, device=place.device)
        self.place, self.own = (
            place.repeat_interleave(count),
            LowPrecisionDynamicCache(config=policy.model.config.text_config),
        )
        self.prompts = [(layer.keys, layer.values) for layer in prompts.layers]
        self.unseen = None if seen.all() else torch.zeros(seen.shape).masked_fill(seen == 0, -torch.inf)[:, None, None]

    def keep(self, going: Tensor) -> Tensor:
        """(R,) which rows go on -> the indices of the rows that remain."""
        stay = going.nonzero()[:, 0]
        if len(stay) < len(going):
            self.place, self.slots = self.place[stay], self.slots[stay]
            self.own.batch_select_indices(stay)
            self._forget()
        return stay

    def __call__(self, tokens: Tensor) -> Tensor:
        hidden = decode_step(self.policy, self.own, tokens, self, self.place)
        self.place = self.place + 1
        return hidden

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """(R, heads, 1, D) queries over their prompts and the (R, key heads, T, D) of their own -> (R, 1, heads, D)."""
        query, key, value, keys, values = (cast_to_autocast(x) for x in (query, key, value, *self.prompts[layer]))
        heads, size = key.shape[1], query.shape[-1]
        query = query.reshape(len(query), heads, -1, size)  # queries that share a key are one more kind of token
        asked = query.new_zeros(len(keys) * self.count, *query.shape[1:]).index_copy(0, self.slots, query)
        asked = asked.unflatten(0, (-1, self.count)).transpose(1, 2).flatten(2, 3)  # (P, key heads, count * each, D)
        unseen = None if self.unseen is None else self.unseen.expand(-1, 1, asked.shape[2], -1).to(query.dtype)
        shared = attention_with_lse(asked, keys, values, attn_mask=unseen, scale=scale)
        prompt, weight = (self._rows(x, heads) for x in shared)
        own, own_weight = attention_with_lse(query, key, value, scale=scale)
        share = (weight - own_weight).sigmoid()[..., None]
        return (own + share * (prompt - own)).to(query.dtype).flatten(1, 2)[:, None]

    def _rows(self, x: Tensor, heads: int) -> Tensor:
        """(P, key heads, count * each, ...) -> (R, key heads, each, ...)."""
        return x.unflatten(2, (self.count, -1)).transpose(1, 2).flatten(0, 1).index_select(0, self.slots)

    def _forget(self) -> None:
        """Let prompts go all of whose replies have ended."""
        left, at = torch.unique(self.slots // self.count, return_inverse=True)
        if len(left) < len(self.prompts[0][0]):
            self.slots = at * self.count + self.slots % self.count
            self.prompts = [(keys[left], values[left]) for keys, values in self.prompts]
            self.unseen = None if self.unseen is None else self.unseen[left]


class CudaGraphCache:
    """A cache of fixed size, in which each token's work has the shapes and the addresses of the last one's.

    So on a GPU it is recorded as a CUDA graph and replayed: launching its kernels costs nothing any more. The first
    token after a resettling runs plainly, which warms up what the recording of the second needs. Rows resettle in a new
    cache when half of them have ended, or when `room` tokens have filled this one. A graph lives no longer than its
    rollout: the weights move, and autocast's half-precision copies of them are made once for each.
    """

    graph: torch.cuda.CUDAGraph | None
    warm: bool

    def __init__(
        self, policy: Policy, prompts: DynamicCache, seen: Tensor, place: Tensor, count: int, room: int = 256
    ) -> None:
        self.policy, self.room = policy, room
        prompts.batch_repeat_interleave(count)
        layers = [(layer.keys, layer.values) for layer in prompts.layers]
        self._settle(layers, *(x.repeat_interleave(count, dim=0) for x in (seen.bool(), place)))

    def keep(self, going: Tensor) -> Tensor:
        """(R,) which rows go on -> the indices of the rows that remain, some of which may have ended."""
        stay = going.nonzero()[:, 0]
        if 2 * len(stay) > len(going):
            return torch.arange(len(going), device=going.device)
        self._resettle(stay)
        return stay

    def __call__(self, tokens: Tensor) -> Tensor:
        if self.filled == self.seen.shape[1]:
            self._resettle(torch.arange(len(tokens), device=tokens.device))
        self.seen[:, self.filled] = True
        self.filled += 1
        self.tokens.copy_(tokens)
        if self.graph is not None:
            self.graph.replay()
        elif self.warm and tokens.is_cuda:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._step()
            self.graph.replay()
        else:
            self._step()
            self.warm = True
        return self.hidden

    def _step(self) -> None:
        mask = self.seen[:, None, None]
        self.hidden = decode_step(self.policy, self.cache, self.tokens, mask, self.place)
        self.place += 1

    def _resettle(self, stay: Tensor) -> None:
        filled = slice(self.filled)
        layers = [(layer.keys[stay, :, filled], layer.values[stay, :, filled]) for layer in self.cache.layers]
        self._settle(layers, self.seen[stay, filled], self.place[stay])

    def _settle(self, layers: Sequence[tuple[Tensor, Tensor]], seen: Tensor, place: Tensor) -> None:
        rows, self.filled = seen.shape
        self.seen = torch.nn.functional.pad(seen, (0, self.room))
        self.cache = LowPrecisionStaticCache(
            self.policy.model.config.text_config, max_cache_len=self.filled + self.room
        )
        for layer, (keys, values) in zip(self.cache.layers, layers, strict=True):
            layer.update(keys, values)
        self.place, self.tokens = place.clone(), place.new_zeros(rows)
        self.graph, self.warm = None, False


def decode_step(
    policy: Policy, cache: DynamicCache | StaticCache, tokens: Tensor, mask: Tensor | SharedPrefixCache, place: Tensor
) -> Tensor:
    """One token of each row, (R,), at its place, (R,), through the language model -> (R, hidden)."""
    language = policy.model.model.language_model
    return language(
        inputs_embeds=policy.model.get_input_embeddings()(tokens[:, None]),
        attention_mask=dict.fromkeys(language.config.layer_types, mask)
        if isinstance(mask, SharedPrefixCache)
        else mask,
        position_ids=place.expand(3, -1)[:, :, None],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state[:, -1]
