"""The cache of a rollout on a GPU, where a token's work is recorded as a CUDA graph.

R is the number of rows at the time, one for each completion that is still sampled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from rlvid.policy.decoding import LowPrecisionStaticCache, decode_step
from rlvid.policy.model import Policy
from rlvid.policy.oom import find_out_of_memory
from rlvid.policy.sampling_weights import SamplingWeights


class CudaGraphCache:
    """A cache of fixed size, so that decoding every token has the same shapes and memory addresses.

    On a GPU the second token is recorded as a CUDA graph, which is replayed for all others: launching kernels then
    costs almost nothing. The first token runs without a graph, which warms up what the recording needs.

    The columns of a row whose prompt is padded with one token on the right:

        keys             [ A B C . | d e f | free ...   ]    prompt, generated tokens, free columns
        attention_mask     1 1 1 0   1 1 1   0 0 0 0 0
                                             ^ filled

    Rows that have ended stay in the cache until they are half of all rows; then the others move to a new cache. They
    also move when all `free_columns` are filled. A graph lives no longer than its rollout: the weights change, and
    their copies in half precision, autocast's or `sampling_weights`', are made once for each.

    Args:
        policy: its language model decodes.
        prompt_cache: of P prefilled prompts of up to L tokens, padded on the right; it is emptied.
        attention_mask: (P, L), 1 on prompt tokens and 0 on padding.
        next_positions: (P,), the position of the first completion token.
        count: completions of each prompt.
        weights: decode in place of the model's own layers.
        free_columns: for how many tokens a new cache has space.
    """

    graph: torch.cuda.CUDAGraph | None
    warmed_up: bool
    can_capture: ClassVar[bool] = True  # until a recording fails

    def __init__(
        self,
        policy: Policy,
        prompt_cache: DynamicCache,
        attention_mask: Tensor,
        next_positions: Tensor,
        count: int,
        weights: SamplingWeights | None = None,
        free_columns: int = 256,
    ) -> None:
        self.policy, self.weights, self.free_columns = policy, weights, free_columns
        mask, positions = (x.repeat_interleave(count, dim=0) for x in (attention_mask.bool(), next_positions))
        rows = torch.arange(len(attention_mask), device=mask.device).repeat_interleave(count)
        self._allocate(taken_apart(prompt_cache, rows, attention_mask.shape[1]), mask, positions)

    def drop_finished(self, active: Tensor) -> Tensor:
        """Drop the rows that are not active, (R,) bool, if they are half of all or more.

        Returns:
            The indices of the rows that remain; some of them may have ended.
        """
        remaining = active.nonzero()[:, 0]
        if 2 * len(remaining) > len(active):
            return torch.arange(len(active), device=active.device)
        self._move(remaining)
        return remaining

    def decode(self, tokens: Tensor) -> Tensor:
        """(R,) the next token of each row -> (R, hidden), the states after them; the next call overwrites them."""
        if self.filled == self.attention_mask.shape[1]:
            self._move(torch.arange(len(tokens), device=tokens.device))
        self.attention_mask[:, self.filled] = True
        self.filled += 1
        self.tokens.copy_(tokens)  # a graph reads the tokens from this address
        if self.graph is None and self.warmed_up and captures_graphs(tokens.device) and CudaGraphCache.can_capture:
            self._capture()
        if self.graph is not None:
            self.graph.replay()
        else:
            self._decode()
            self.warmed_up = True
        return self.hidden

    def _capture(self) -> None:
        """Record the work of a token, which does not run it. If that fails, decode without graphs from now on.

        Raises RuntimeError if memory ran out, so that the sampler takes a smaller batch.
        """
        try:
            self.graph = capture_graph(self._decode)
        except RuntimeError as error:
            if out_of_memory := find_out_of_memory(error):
                raise out_of_memory from error
            CudaGraphCache.can_capture = False
            reason = str(error).splitlines()[0]
            print(
                f"rlvid: a CUDA graph cannot be recorded ({reason}); sampling goes on without, slower", file=sys.stderr
            )

    def _decode(self) -> None:
        """The work of a token. It reads and writes the same tensors every time."""
        mask = self.attention_mask[:, None, None]
        self.hidden = decode_step(self.policy, self.weights, self.cache, self.tokens, mask, self.positions)
        self.positions += 1

    def _move(self, rows: Tensor) -> None:
        """Move some rows to a new cache."""
        self.graph = None  # it holds the addresses of the old cache
        layers = taken_apart(self.cache, rows, self.filled)
        self._allocate(layers, self.attention_mask[rows, : self.filled], self.positions[rows])

    def _allocate(self, layers: Iterable[tuple[Tensor, Tensor]], attention_mask: Tensor, positions: Tensor) -> None:
        """Start a new cache of R rows.

        Args:
            layers: keys and values of each layer, (R, key heads, filled, D); one layer at a time is in memory.
            attention_mask: (R, filled).
            positions: (R,), of each row's next token.
        """
        rows, self.filled = attention_mask.shape
        self.attention_mask = torch.nn.functional.pad(attention_mask, (0, self.free_columns))
        self.cache = LowPrecisionStaticCache(
            self.policy.model.config.text_config, max_cache_len=self.filled + self.free_columns
        )
        for layer, (keys, values) in zip(self.cache.layers, layers, strict=True):
            layer.update(keys, values)
        self.positions, self.tokens = positions.clone(), positions.new_zeros(rows)
        self.graph, self.warmed_up = None, False


def taken_apart(cache: Cache, rows: Tensor, length: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield some rows of each layer of a cache, and free the layer, so that no two caches are in memory as a whole.

    Args:
        cache: cannot be used afterwards.
        rows: (R,) indices, which may repeat.
        length: how many columns are taken, from the first.

    Yields:
        Keys and values, (R, key heads, length, D).
    """
    for layer in cache.layers:
        keys, values = layer.keys, layer.values
        layer.keys = layer.values = None
        yield keys[rows, :, :length], values[rows, :, :length]


def captures_graphs(device: torch.device) -> bool:
    """Return whether decoding on a device is recorded as a graph."""
    return device.type == "cuda"


def capture_graph(work: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """Record what `work` launches on the GPU, without running it.

    Only this thread is watched for calls that break a recording: others may allocate and pin memory meanwhile.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph
