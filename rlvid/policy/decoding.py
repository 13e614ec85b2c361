"""One token after another: what a rollout keeps of its rows between tokens, on a CPU and on a GPU.

Both forms start from a prefilled cache and are used alike: `keep` lets rows that have ended go, and a call with the
rows' tokens, (R,), returns the states after them, (R, hidden).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache

from rlvid.policy.model import Policy


class Lean:
    """Keeps keys and values in the precision in which autocast would multiply them: the same bits in half the room."""

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """As transformers' `Cache.update`."""
        kind = keys.device.type
        if torch.is_autocast_enabled(kind):
            keys, values = (x.to(torch.get_autocast_dtype(kind)) for x in (keys, values))
        return super().update(keys, values, *args, **kwargs)  # type: ignore[misc]


class LeanDynamicCache(Lean, DynamicCache):
    """Transformers' cache that grows."""


class LeanStaticCache(Lean, StaticCache):
    """Transformers' cache of a fixed size."""


class Growing:
    """A cache that grows by each token and loses each row that ends: no work is wasted, every size is new."""

    def __init__(self, policy: Policy, cache: DynamicCache, seen: Tensor, place: Tensor) -> None:
        """`seen` (R, L): 1 where a row's prompt stands, 0 on its padding; `place` (R,): where its reply begins."""
        self.policy, self.cache, self.seen, self.place = policy, cache, seen, place

    def keep(self, going: Tensor) -> Tensor:
        """(R,) which rows go on -> the indices of the rows that remain."""
        stay = going.nonzero()[:, 0]
        if len(stay) < len(going):
            self.seen, self.place = self.seen[stay], self.place[stay]
            self.cache.batch_select_indices(stay)
        return stay

    def __call__(self, tokens: Tensor) -> Tensor:
        self.seen = torch.cat([self.seen, torch.ones_like(self.seen[:, :1])], dim=1)
        hidden = forward(self.policy, self.cache, tokens, self.seen, self.place)
        self.place = self.place + 1
        return hidden


class Fixed:
    """A cache of fixed size, in which each token's work has the shapes and the addresses of the last one's.

    So on a GPU it is recorded as a CUDA graph and replayed: launching its kernels costs nothing any more. The first
    token after a resettling runs plainly, which warms up what the recording of the second needs. Rows resettle in a new
    cache when half of them have ended, or when `room` tokens have filled this one. A graph lives no longer than its
    rollout: the weights move, and autocast's half-precision copies of them are made once for each.
    """

    graph: torch.cuda.CUDAGraph | None
    warm: bool

    def __init__(self, policy: Policy, cache: DynamicCache, seen: Tensor, place: Tensor, room: int = 256) -> None:
        self.policy, self.room = policy, room
        self._settle([(layer.keys, layer.values) for layer in cache.layers], seen.bool(), place)

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
        self.hidden = forward(self.policy, self.cache, self.tokens, mask, self.place)
        self.place += 1

    def _resettle(self, stay: Tensor) -> None:
        filled = slice(self.filled)
        layers = [(layer.keys[stay, :, filled], layer.values[stay, :, filled]) for layer in self.cache.layers]
        self._settle(layers, self.seen[stay, filled], self.place[stay])

    def _settle(self, layers: Sequence[tuple[Tensor, Tensor]], seen: Tensor, place: Tensor) -> None:
        rows, self.filled = seen.shape
        self.seen = torch.nn.functional.pad(seen, (0, self.room))
        self.cache = LeanStaticCache(self.policy.model.config.text_config, max_cache_len=self.filled + self.room)
        for layer, (keys, values) in zip(self.cache.layers, layers, strict=True):
            layer.update(keys, values)
        self.place, self.tokens = place.clone(), place.new_zeros(rows)
        self.graph, self.warm = None, False


def forward(policy: Policy, cache: DynamicCache | StaticCache, tokens: Tensor, mask: Tensor, place: Tensor) -> Tensor:
    """One token of each row, (R,), at its place, (R,), through the language model -> (R, hidden)."""
    return policy.model.model.language_model(
        inputs_embeds=policy.model.get_input_embeddings()(tokens[:, None]),
        attention_mask=mask,
        position_ids=place.expand(3, -1)[:, :, None],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state[:, -1]
