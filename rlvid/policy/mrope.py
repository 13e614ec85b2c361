"""M-RoPE: the positions of a prompt's tokens in time, height and width (arXiv:2409.12191)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from rlvid.policy.families import Segment

# In the config.json of a model that was trained with the positions of transformers.
TRANSFORMERS_POSITIONS = {"rlvid_text_after_media": "side"}


def mrope_position_ids(
    kinds: Tensor, segments: Sequence[Segment], like_transformers: bool = False
) -> tuple[Tensor, int]:
    """Compute the positions of a prompt's tokens.

    Text tokens count up on all three axes. A segment, which is a video, a part of it or an image, counts its steps in
    time, its rows and its columns from the position where it begins. Steps may be a broken number of positions apart:
    each is rounded down, in float64 as in vLLM. The text after a segment continues after the largest of its positions,
    as in the published code and in vLLM. transformers (5.23) continues after the larger of rows and columns; this
    differs only if a segment is longer in time than it has rows and columns.

    Two text tokens, a video of 3 steps with 1 row and 2 columns, and another text token:

        token     a b  v v v v v v  c
        time      0 1  2 2 3 3 4 4  5
        height    0 1  2 2 2 2 2 2  5
        width     0 1  2 3 2 3 2 3  5     with `like_transformers`, c is at 4

    Args:
        kinds: (L,), 0 for text and another number for each kind of media.
        segments: of all videos and images, with text between any two.
        like_transformers: continue as transformers does.

    Returns:
        (3, L) positions, and the position of the token that comes next.
    """
    parts = [torch.zeros(3, 0, dtype=torch.long)]
    position, remaining = 0, iter(segments)
    for kind, run in groupby(kinds.tolist()):
        if kind:
            (time, rows, columns), _, pace = next(remaining)
            grid = _grid_positions(time, rows, columns, pace)
            parts.append(position + grid)
            position += max(rows, columns) if like_transformers else max(int(grid[0, -1]) + 1, rows, columns)
        else:
            end = position + len(list(run))
            parts.append(torch.arange(position, end).expand(3, -1))
            position = end
    positions = torch.cat(parts, dim=1)
    return positions, int(positions.max()) + 1


@lru_cache(maxsize=1024)
def _grid_positions(time: int, rows: int, columns: int, pace: float) -> Tensor:
    """(3, time * rows * columns): the positions of a segment that begins at 0. Not to be changed in place."""
    steps = (torch.arange(time, dtype=torch.float64) * pace).long()
    return torch.cartesian_prod(steps, torch.arange(rows), torch.arange(columns)).T


def uses_transformers_positions(config: Any) -> bool:
    """Return whether a model, by its config, was trained with the positions of transformers."""
    return all(getattr(config, key, None) == value for key, value in TRANSFORMERS_POSITIONS.items())
