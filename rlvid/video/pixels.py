"""Frames become patches: normalise, patchify, as Qwen2-VL's own processors do, on the frames' own device."""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor

MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's, as in every Qwen2-VL checkpoint
STD = (0.26862954, 0.26130258, 0.27577711)


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
