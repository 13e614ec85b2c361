"""M-RoPE: where each token of a prompt stands in time, height and width (Qwen2-VL, arXiv:2409.12191)."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import torch
from torch import Tensor

TRANSFORMERS_POSITIONS = {"rlvid_text_after_media": "side"}  # in a model's config.json, where it was trained so


def mrope_position_ids(kinds: Tensor, grids: Tensor, side: bool = False) -> tuple[Tensor, int]:
    """(L,) kinds, 0 for text, and (M, 3) grids of visual tokens -> (3, L) positions, and that of what comes next.

    Text counts on all three axes together. A medium counts steps in time, rows and columns from where it begins, and
    text goes on past the largest of them: so the published code has it, and vLLM. transformers (5.23) goes on past its
    rows and columns alone, `side`: the same, unless a film has more steps than its frames have tokens to a side.
    """
    parts, at, media = [torch.zeros(3, 0, dtype=torch.long)], 0, iter(grids.tolist())
    for kind, run in groupby(kinds.tolist()):
        if kind:
            shape = next(media)
            parts.append(at + torch.cartesian_prod(*map(torch.arange, shape)).T)
            at += max(shape[1:] if side else shape)
        else:
            parts.append(torch.arange(at, at := at + len(list(run))).expand(3, -1))
    placed = torch.cat(parts, dim=1)
    return placed, int(placed.max()) + 1


def uses_transformers_positions(config: Any) -> bool:
    """Whether a model was trained with transformers' positions."""
    return all(getattr(config, key, None) == value for key, value in TRANSFORMERS_POSITIONS.items())
