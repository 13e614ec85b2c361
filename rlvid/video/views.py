"""Altered views of a clip, such as its frames in another order. They show what the policy really uses of the video."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from rlvid.errors import UserError
from rlvid.registry import suggest
from rlvid.video.read import Clock

MEAN_GREY = (123, 117, 104)  # 255 times CLIP's channel means, rounded: near 0 after normalisation


@dataclass(frozen=True)
class Clip:
    """The pixels of one prompt: its progress video and its observation image. Either may be absent.

    Attributes:
        video: (T, H, W, 3) uint8.
        image: (H, W, 3) uint8.
        clock: when the frames are shown; None if unknown. It belongs to places and not to pixels: whatever is done to
            the frames, the clock stays, so that no view or noise shows by its times.
    """

    video: np.ndarray | None = None
    image: np.ndarray | None = None
    clock: Clock | None = None


def check_views(names: Iterable[str]) -> None:
    """Raise UserError, with a suggestion, for a name that is not in `VIEWS`."""
    for name in names:
        if name not in VIEWS:
            raise UserError(f"no view {name!r}.{suggest(name, VIEWS)}")


def apply_view(name: str, clip: Clip, sample_id: str, seed: int = 0) -> Clip:
    """Return one of `VIEWS` of a clip; the clip itself does not change.

    The random numbers come from a hash of seed, name and sample id, so the result is the same in every step, process
    and run. Raises UserError for an unknown name.
    """
    check_views([name])
    digest = hashlib.blake2b(f"{seed}|{name}|{sample_id}".encode(), digest_size=8).digest()
    return VIEWS[name](clip, np.random.default_rng(int.from_bytes(digest)))


def _shuffled(clip: Clip, rng: np.random.Generator) -> Clip:
    """The frames in another order.

    Single frames move, as in Video-R1 (arXiv:2503.21776), and not the pairs that Qwen2-VL merges: a pair that stays
    together would still show the direction of motion.
    """
    if clip.video is None or len(clip.video) < 2:
        return clip
    original_order = np.arange(len(clip.video))
    order = original_order
    while np.array_equal(order, original_order):
        order = rng.permutation(original_order)
    return replace(clip, video=clip.video[order])


def _reversed(clip: Clip, rng: np.random.Generator) -> Clip:
    """The frames from last to first."""
    return clip if clip.video is None else replace(clip, video=clip.video[::-1])


def _blank(clip: Clip, rng: np.random.Generator) -> Clip:
    """Every pixel mean grey; the shapes, and so the number of visual tokens, stay the same."""
    video = None if clip.video is None else np.full_like(clip.video, MEAN_GREY)
    image = None if clip.image is None else np.full_like(clip.image, MEAN_GREY)
    return replace(clip, video=video, image=image)


def _image_only(clip: Clip, rng: np.random.Generator) -> Clip:
    """The observation image without the progress video."""
    return Clip(image=clip.image)


def _text_only(clip: Clip, rng: np.random.Generator) -> Clip:
    """No pixels at all."""
    return Clip()


VIEWS: dict[str, Callable[[Clip, np.random.Generator], Clip]] = {
    "shuffled": _shuffled,
    "reversed": _reversed,
    "blank": _blank,
    "image_only": _image_only,
    "text_only": _text_only,
}
