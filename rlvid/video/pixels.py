"""Turn frames into the patches that the vision tower reads, as the models' own processors do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange, repeat
from torch import Tensor

OPENAI_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # per channel, as in every Qwen2-VL checkpoint
OPENAI_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def patchify(
    frames: Tensor,
    patch: int = 14,
    merge: int = 2,
    temporal: int = 2,
    mean: Sequence[float] = OPENAI_CLIP_MEAN,
    std: Sequence[float] = OPENAI_CLIP_STD,
) -> tuple[Tensor, tuple[int, int, int]]:
    """Normalise frames and cut them into patches, on the device where the frames are.

    A patch covers `temporal` frames and `patch` x `patch` pixels. The patches of a block of `merge` x `merge`, which
    the model merges into one token, are neighbours in the output. For grid (t, 4, 6) and merge 2, these are the rows of
    the first `temporal` frames; the next ones start at row 24:

         0  1 |  4  5 |  8  9
         2  3 |  6  7 | 10 11
        ------+-------+------
        12 13 | 16 17 | 20 21
        14 15 | 18 19 | 22 23

    If T is no multiple of `temporal`, the last frame is repeated; so is a single image.

    Args:
        frames: (T, H, W, 3) uint8; H and W are multiples of patch * merge.
        patch: pixels on each side of a patch.
        merge: patches on each side of a token.
        temporal: frames that a patch covers.
        mean, std: of pixels from 0 to 1, per channel; pixels are normalised with them.

    Returns:
        The patches, (t * h * w, 3 * temporal * patch * patch) float32, and the grid (t, h, w), counted in patches.
    """
    grid = patch_grid(frames.shape, patch, temporal)
    missing = grid[0] * temporal - len(frames)
    if missing:
        frames = torch.cat([frames, repeat(frames[-1:], "1 h w c -> n h w c", n=missing)])
    cut = rearrange(
        frames,
        "(t tp) (h mh ph) (w mw pw) c -> (t h w mh mw) (c tp ph pw)",  # here h and w count blocks of patches
        tp=temporal, mh=merge, mw=merge, ph=patch, pw=patch,
    )  # fmt: skip
    # The columns of a patch are its channels, one after the other.
    columns = cut.shape[1] // len(mean)
    means, stds = torch.tensor([tuple(mean), tuple(std)], device=frames.device).repeat_interleave(columns, dim=1)
    return cut.float().div_(255).sub_(means).div_(stds), grid


def patch_grid(shape: Sequence[int], patch: int = 14, temporal: int = 2) -> tuple[int, int, int]:
    """Return the grid (t, h, w), counted in patches, of frames of a shape (T, H, W, ...) (see `patchify`)."""
    return -(-shape[0] // temporal), shape[1] // patch, shape[2] // patch
