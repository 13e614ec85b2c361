"""Resize frames to the size at which the policy sees them: both sides multiples of 28, as Qwen2-VL needs."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor, sqrt

import numpy as np
from PIL import Image

from rlvid.config import VideoConfig
from rlvid.errors import UserError

IMAGE_FACTOR = 28  # pixels on each side of one visual token: patches of 14 pixels, merged two by two


def smart_resize(height: int, width: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Return Qwen2-VL's (height, width) for an image, with nearly the same aspect ratio.

    Both are multiples of 28, and their product is from `min_pixels` to `max_pixels`. Raises UserError if one side is
    more than 200 times as long as the other.
    """
    if max(height, width) > 200 * min(height, width):
        raise UserError(f"{width}x{height} pixels: more than 200 times as long as wide; leave this sample out")
    new_height, new_width = _nearest_multiple(height), _nearest_multiple(width)
    if new_height * new_width > max_pixels:
        shrink = sqrt(height * width / max_pixels)
        new_height, new_width = (
            max(IMAGE_FACTOR, floor(side / shrink / IMAGE_FACTOR) * IMAGE_FACTOR) for side in (height, width)
        )
    elif new_height * new_width < min_pixels:
        grow = sqrt(min_pixels / (height * width))
        new_height, new_width = (ceil(side * grow / IMAGE_FACTOR) * IMAGE_FACTOR for side in (height, width))
    return new_height, new_width


def target_size(height: int, width: int, video: VideoConfig) -> tuple[int, int]:
    """Return the (height, width) in pixels at which a frame of this size is shown.

    `video.resized_height` and `resized_width` where both are set, rounded to multiples of 28 (SEED-Bench-R1's 256
    becomes 252); else `smart_resize`.
    """
    if video.resized_height and video.resized_width:
        return _nearest_multiple(video.resized_height), _nearest_multiple(video.resized_width)
    return smart_resize(height, width, video.min_pixels, video.max_pixels)


def resize(frames: np.ndarray, video: VideoConfig) -> np.ndarray:
    """Resize (T, H, W, 3) uint8 to (T, h, w, 3) uint8 with Pillow's bicubic filter, which does not alias."""
    height, width = target_size(frames.shape[1], frames.shape[2], video)
    if frames.shape[1:3] == (height, width):
        return frames
    images = (Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC) for frame in frames)
    return np.stack([np.asarray(image) for image in images])


def read_resized(reader: Callable[[str, VideoConfig], np.ndarray], path: str, video: VideoConfig) -> np.ndarray:
    """Read the chosen frames of a file and resize them: (T, h, w, 3) uint8."""
    return resize(reader(path, video), video)


def _nearest_multiple(side: int) -> int:
    """The multiple of 28 that is nearest to a side, 28 at least."""
    return max(IMAGE_FACTOR, round(side / IMAGE_FACTOR) * IMAGE_FACTOR)
