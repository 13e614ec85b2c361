"""Frames become patches: resize, normalise, patchify, as Qwen2-VL's own processors do, on the frames' own device."""

from __future__ import annotations

from math import ceil, floor, sqrt

import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn.functional import interpolate

from rlvid.config import Video
from rlvid.errors import UserError

FACTOR = 28  # pixels on each side of one visual token: patches of 14, merged two by two
MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's, as in every Qwen2-VL checkpoint
STD = (0.26862954, 0.26130258, 0.27577711)


def smart_resize(height: int, width: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Qwen2-VL's size for an image: multiples of 28, between two areas, of nearly the same aspect ratio."""
    if max(height, width) > 200 * min(height, width):
        raise UserError(f"{width}x{height} pixels: more than 200 times as long as wide; leave this sample out")
    h, w = (max(FACTOR, round(side / FACTOR) * FACTOR) for side in (height, width))
    if h * w > max_pixels:
        shrink = sqrt(height * width / max_pixels)
        h, w = (max(FACTOR, floor(side / shrink / FACTOR) * FACTOR) for side in (height, width))
    elif h * w < min_pixels:
        grow = sqrt(min_pixels / (height * width))
        h, w = (ceil(side * grow / FACTOR) * FACTOR for side in (height, width))
    return h, w


def size(height: int, width: int, video: Video) -> tuple[int, int]:
    """The size at which frames are shown: `resized_*` where both are set (the paper's 256 becomes 252), else smart."""
    if video.resized_height and video.resized_width:
        sides = video.resized_height, video.resized_width
        h, w = (max(FACTOR, round(side / FACTOR) * FACTOR) for side in sides)
        return h, w
    return smart_resize(height, width, video.min_pixels, video.max_pixels)


def resize(frames: Tensor, video: Video) -> Tensor:
    """(T, H, W, 3) uint8 -> (T, h, w, 3) uint8, bicubic with antialias, h and w multiples of 28.

    Width first, then height, each rounded to whole levels: so do Pillow and torchvision's uint8 kernel. In one pass the
    overshoot at sharp edges, which they cut off in between, moves full-contrast noise by up to 20 of 255 levels.
    """
    h, w = size(frames.shape[1], frames.shape[2], video)
    planes = rearrange(frames, "t h w c -> t c h w")
    for shape in ((planes.shape[2], w), (h, w)):
        if planes.shape[2:] != shape:
            planes = interpolate(planes.float(), shape, mode="bicubic", antialias=True).round().clamp(0, 255).byte()
    return rearrange(planes, "t c h w -> t h w c")


def patchify(frames: Tensor, patch: int = 14, merge: int = 2, temporal: int = 2) -> tuple[Tensor, tuple[int, int, int]]:
    """(T, H, W, 3) uint8 -> (t*h*w, 3*temporal*patch*patch) float32 and the grid (t, h, w) in patches.

    H and W must be multiples of patch*merge. A last odd frame (and so a single image) is repeated.
    """
    if frames.shape[0] % temporal:
        frames = torch.cat([frames, repeat(frames[-1:], "1 h w c -> n h w c", n=-frames.shape[0] % temporal)])
    pixels = (frames.float() / 255 - torch.tensor(MEAN, device=frames.device)) / torch.tensor(STD, device=frames.device)
    t, h, w = pixels.shape[0] // temporal, pixels.shape[1] // patch, pixels.shape[2] // patch
    rows = rearrange(
        pixels,
        "(t tp) (h mh ph) (w mw pw) c -> (t h w mh mw) (c tp ph pw)",
        tp=temporal, mh=merge, mw=merge, ph=patch, pw=patch,
    )  # fmt: skip
    return rows, (t, h, w)
