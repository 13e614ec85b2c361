"""Attention of the vision tower: all segments of equal length in one call.

A vision tower attends within segments: the patches of a frame, or of a window of it. transformers calls the attention
function once for each segment, except for flash attention, which it gives all patches at once and where segments end.
Here PyTorch's attention takes these arguments too, so that a batch needs one call for each length that occurs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "sdpa_by_segment_like_flash"  # transformers hands over all segments at once if a name contains "flash"


def use_segment_attention(model: PreTrainedModel) -> None:
    """Make a model's vision tower attend by `attend_within_segments`, if it uses PyTorch's attention."""
    config = model.model.visual.config
    if config._attn_implementation == "sdpa":
        ALL_ATTENTION_FUNCTIONS.register(NAME, attend_within_segments)
        config._attn_implementation = NAME


def attend_within_segments(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    cu_seq_lens_q: Tensor,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """An attention function for transformers: every patch attends to the patches of its segment.

    Args:
        module: the attention layer; not used.
        query, key, value: (1, heads, N, D), of the N patches of all segments.
        attention_mask: None.
        cu_seq_lens_q: (S + 1,): where the S segments begin, and N.
        scaling: of the scores; None is 1 / sqrt(D).
        kwargs: what transformers hands to every attention function; not used.

    Returns:
        (1, N, heads, D), and None in place of weights.
    """
    lengths = cu_seq_lens_q.diff().tolist()
    if len(set(lengths)) == 1:
        return _attend(query, key, value, lengths[0], scaling)[None], None
    patches = torch.arange(query.shape[2], device=query.device).split(lengths)  # of each segment
    outputs, order = [], []
    for length in sorted(set(lengths)):
        chosen = torch.cat([rows for rows, size in zip(patches, lengths, strict=True) if size == length])
        q, k, v = (x.index_select(2, chosen) for x in (query, key, value))
        outputs.append(_attend(q, k, v, length, scaling))
        order.append(chosen)
    return torch.cat(outputs).index_select(0, torch.cat(order).argsort())[None], None


def _attend(query: Tensor, key: Tensor, value: Tensor, length: int, scaling: float | None) -> Tensor:
    """(1, heads, N, D) of segments of equal length -> (N, heads, D)."""
    query, key, value = (x[0].unflatten(1, (-1, length)).transpose(0, 1) for x in (query, key, value))
    return scaled_dot_product_attention(query, key, value, scale=scaling).transpose(1, 2).flatten(0, 1)
