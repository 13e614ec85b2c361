"""Resize frames to the size at which the policy sees them: both sides whole numbers of visual tokens."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor, sqrt

import numpy as np
from PIL import Image

from rlvid.config import VideoConfig
from rlvid.errors import UserError
from rlvid.video.read import Frames

IMAGE_FACTOR = 28  # pixels on each side of a visual token of Qwen2-VL: patches of 14 pixels, merged two by two


def smart_resize(
    height: int, width: int, min_pixels: int, max_pixels: int, factor: int = IMAGE_FACTOR
) -> tuple[int, int]:
    """Return the published (height, width) for an image, with nearly the same aspect ratio.

    Both are multiples of `factor`, and their product is from `min_pixels` to `max_pixels`. Raises UserError if one side
    is more than 200 times as long as the other.
    """
    if max(height, width) > 200 * min(height, width):
        raise UserError(f"{width}x{height} pixels: more than 200 times as long as wide; leave this sample out")
    new_height, new_width = _nearest_multiple(height, factor), _nearest_multiple(width, factor)
    if new_height * new_width > max_pixels:
        shrink = sqrt(height * width / max_pixels)
        new_height, new_width = (max(factor, floor(side / shrink / factor) * factor) for side in (height, width))
    elif new_height * new_width < min_pixels:
        grow = sqrt(min_pixels / (height * width))
        new_height, new_width = (ceil(side * grow / factor) * factor for side in (height, width))
    return new_height, new_width


def target_size(height: int, width: int, video: VideoConfig, factor: int = IMAGE_FACTOR) -> tuple[int, int]:
    """Return the (height, width) in pixels at which a frame of this size is shown.

    `video.resized_height` and `resized_width` where both are set, rounded to multiples of `factor` (with 28,
    SEED-Bench-R1's 256 becomes 252); else `smart_resize`.
    """
    if video.resized_height and video.resized_width:
        return _nearest_multiple(video.resized_height, factor), _nearest_multiple(video.resized_width, factor)
    return smart_resize(height, width, video.min_pixels, video.max_pixels, factor)


def resize(frames: np.ndarray, video: VideoConfig, factor: int = IMAGE_FACTOR) -> np.ndarray:
    """Resize (T, H, W, 3) uint8 to (T, h, w, 3) uint8 with Pillow's bicubic filter, which does not alias."""
    height, width = target_size(frames.shape[1], frames.shape[2], video, factor)
    if frames.shape[1:3] == (height, width):
        return frames
    images = (Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC) for frame in frames)
    return np.stack([np.asarray(image) for image in images])


def read_resized(
    reader: Callable[[str, VideoConfig], Frames], path: str, video: VideoConfig, factor: int = IMAGE_FACTOR
) -> Frames:
    """Read the chosen frames of a file and resize them."""
    frames = reader(path, video)
    return frames._replace(pixels=resize(frames.pixels, video, factor))


def _nearest_multiple(side: int, factor: int) -> int:
    """The multiple of `factor` that is nearest to a side, at least `factor` itself."""
    return max(factor, round(side / factor) * factor)
