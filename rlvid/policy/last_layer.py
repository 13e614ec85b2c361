"""The last decoder layer, computed only for the columns whose result is read.

Of a prompt's tokens, the last layer's keys and values are read, by the tokens that attend to them, and nothing else.
So queries, attention, the output projection, the MLP and the norm after the layer are computed for these columns alone:

    packed rows    the states that predict a completion token (`packing`)
    prefill        the last column of each prompt (`prefill`)

Shapes: N rows of L columns, of which M columns are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

# (query, key, value, scale) -> attention: (M, heads, D) and twice (N, key heads, L, D) -> (M, heads, D)
AttendColumns = Callable[[Tensor, Tensor, Tensor, float], Tensor]


@contextmanager
def only_columns(language_model: Any, columns: Tensor, attend: AttendColumns) -> Iterator[None]:
    """Within this context a language model returns the states of some columns, (1, M, hidden).

    Args:
        language_model: of a packed family.
        columns: (M,), their indices among the N * L columns of all rows, row after row; they may repeat.
        attend: the attention of their queries in the last layer.
    """
    layer = language_model.layers[-1]
    layer.forward = partial(_forward_checkpointed, layer, columns, attend)
    try:
        yield
    finally:
        del layer.forward  # the method of the class is back


def _forward_checkpointed(layer: Any, columns: Tensor, attend: AttendColumns, hidden: Tensor, **kwargs: Any) -> Tensor:
    """As `_forward`; with gradient checkpointing the backward pass computes the layer again, as the class's forward."""

    def forward(hidden: Tensor) -> Tensor:
        return _forward(layer, columns, attend, hidden, **kwargs)

    if layer.gradient_checkpointing and layer.training:
        return layer._gradient_checkpointing_func(forward, hidden)
    return forward(hidden)


def _forward(
    layer: Any,
    columns: Tensor,
    attend: AttendColumns,
    hidden: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    past_key_values: Any = None,
    **_: Any,
) -> Tensor:
    """The forward of a decoder layer, (N, L, hidden) -> (1, M, hidden).

    The layers of all families have this form: Qwen2VLDecoderLayer, Qwen2_5_VLDecoderLayer, Qwen3VLTextDecoderLayer and
    that of Qwen3-VL's experts.
    """
    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    key = rotate(split_heads(attention.k_proj(normed), attention, "k_norm"), *position_embeddings)
    value = split_heads(attention.v_proj(normed), attention)
    if past_key_values is not None:
        key, value = past_key_values.update(key, value, attention.layer_idx)

    query = split_heads(attention.q_proj(_take(normed, columns)), attention, "q_norm")
    query = rotate(query, *(_take(x, columns) for x in position_embeddings))  # (1, heads, M, D)
    attended = attend(query[0].transpose(0, 1), key, value, attention.scaling)
    hidden = _take(hidden, columns) + attention.o_proj(attended.flatten(1)[None])
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def _take(x: Tensor, columns: Tensor) -> Tensor:
    """(N, L, width) -> (1, M, width).

    A prompt's last column occurs once for each completion. The backward pass of an index would add up their gradients
    with atomic operations on a GPU, in an order that changes from run to run; that of an embedding keeps the order.
    """
    return embedding(columns, x.flatten(0, 1))[None]


def split_heads(x: Tensor, attention: Any, norm: str = "") -> Tensor:
    """(N, L, heads * D) -> (N, heads, L, D), normed by the attention's module of that name if it has one (Qwen3-VL)."""
    heads = x.unflatten(-1, (-1, attention.head_dim))
    module: nn.Module | None = getattr(attention, norm, None) if norm else None
    return (module(heads) if module else heads).transpose(1, 2)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Give (N, heads, L, D) queries or keys their positions (RoPE), from (N, L, D) cosines and sines."""
    first, second = x.chunk(2, dim=-1)
    return x * cos[:, None] + torch.cat([-second, first], dim=-1) * sin[:, None]
