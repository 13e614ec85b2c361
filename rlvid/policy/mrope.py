"""M-RoPE: the positions of a prompt's tokens in time, height and width (Qwen2-VL, arXiv:2409.12191)."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import torch
from torch import Tensor

# In the config.json of a model that was trained with the positions of transformers.
TRANSFORMERS_POSITIONS = {"rlvid_text_after_media": "side"}


def mrope_position_ids(kinds: Tensor, grids: Tensor, like_transformers: bool = False) -> tuple[Tensor, int]:
    """Compute the positions of a prompt's tokens.

    Text tokens count up on all three axes. A video or an image counts its steps in time, its rows and its columns from
    the position where it begins. The text after it continues after the largest of the three, as in the published code
    and in vLLM. transformers (5.23) continues after the larger of rows and columns; this differs only if a video has
    more steps in time than its frames have rows and columns of tokens.

    Two text tokens, a video of 3 steps with 1 row and 2 columns, and another text token:

        token     a b  v v v v v v  c
        time      0 1  2 2 3 3 4 4  5
        height    0 1  2 2 2 2 2 2  5
        width     0 1  2 3 2 3 2 3  5     with `like_transformers`, c is at 4

    Args:
        kinds: (L,), 0 for text and another number for each kind of media.
        grids: (M, 3), the visual tokens of each video or image in time, height and width.
        like_transformers: continue as transformers does.

    Returns:
        (3, L) positions, and the position of the token that comes next.
    """
    parts = [torch.zeros(3, 0, dtype=torch.long)]
    position, next_grid = 0, iter(grids.tolist())
    for kind, run in groupby(kinds.tolist()):
        if kind:
            time, rows, columns = next(next_grid)
            axes = torch.arange(time), torch.arange(rows), torch.arange(columns)
            parts.append(position + torch.cartesian_prod(*axes).T)
            position += max(rows, columns) if like_transformers else max(time, rows, columns)
        else:
            end = position + len(list(run))
            parts.append(torch.arange(position, end).expand(3, -1))
            position = end
    positions = torch.cat(parts, dim=1)
    return positions, int(positions.max()) + 1


def uses_transformers_positions(config: Any) -> bool:
    """Return whether a model, by its config, was trained with the positions of transformers."""
    return all(getattr(config, key, None) == value for key, value in TRANSFORMERS_POSITIONS.items())
