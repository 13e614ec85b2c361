"""The size at which frames are shown, and frames at that size: multiples of 28 on each side, as Qwen2-VL reads them."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor, sqrt

import numpy as np
from PIL import Image

from rlvid.config import VideoConfig
from rlvid.errors import UserError

FACTOR = 28  # pixels on each side of one visual token: patches of 14, merged two by two


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


def size(height: int, width: int, video: VideoConfig) -> tuple[int, int]:
    """The size at which frames are shown: `resized_*` where both are set (the paper's 256 becomes 252), else smart."""
    if video.resized_height and video.resized_width:
        sides = video.resized_height, video.resized_width
        h, w = (max(FACTOR, round(side / FACTOR) * FACTOR) for side in sides)
        return h, w
    return smart_resize(height, width, video.min_pixels, video.max_pixels)


def resize(frames: np.ndarray, video: VideoConfig) -> np.ndarray:
    """(T, H, W, 3) uint8 -> (T, h, w, 3) uint8, by Pillow's bicubic filter, which does not alias."""
    h, w = size(frames.shape[1], frames.shape[2], video)
    if frames.shape[1:3] == (h, w):
        return frames
    return np.stack([np.asarray(Image.fromarray(f).resize((w, h), Image.Resampling.BICUBIC)) for f in frames])


def shown(reader: Callable[[str, VideoConfig], np.ndarray], path: str, video: VideoConfig) -> np.ndarray:
    """What a reader reads, at the size at which it is shown."""
    return resize(reader(path, video), video)
