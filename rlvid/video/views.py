"""Altered views of a clip: what a reward or an evaluation shows in its place to ask what the policy really uses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rlvid.errors import UserError
from rlvid.registry import suggest

GREY = (123, 117, 104)  # 255 times CLIP's mean: after normalisation, nothing


@dataclass(frozen=True)
class Clip:
    """The pixels of one prompt: its progress video and its observation image, either of which may be absent."""

    video: np.ndarray | None = None  # (T, H, W, 3) uint8
    image: np.ndarray | None = None  # (H, W, 3) uint8


def view(name: str, clip: Clip, sample_id: str, seed: int = 0) -> Clip:
    """One of `VIEWS` of a clip: the same for a sample and a seed wherever and whenever it is asked for."""
    if name not in VIEWS:
        raise UserError(f"no view {name!r}.{suggest(name, VIEWS)}")
    digest = hashlib.blake2b(f"{seed}|{name}|{sample_id}".encode(), digest_size=8).digest()
    return VIEWS[name](clip, np.random.default_rng(int.from_bytes(digest)))


def _shuffled(clip: Clip, rng: np.random.Generator) -> Clip:
    """The frames in another order. Single frames move, as in Video-R1 (arXiv:2503.21776), not the pairs that Qwen2-VL
    merges: a pair kept whole would still show which way things move."""
    if clip.video is None or len(clip.video) < 2:
        return clip
    order = identity = np.arange(len(clip.video))
    while np.array_equal(order, identity):
        order = rng.permutation(identity)
    return Clip(clip.video[order], clip.image)


def _reversed(clip: Clip, rng: np.random.Generator) -> Clip:
    """The frames from last to first."""
    return Clip(None if clip.video is None else clip.video[::-1], clip.image)


def _blank(clip: Clip, rng: np.random.Generator) -> Clip:
    """Every pixel mean grey; shapes, and so the number of visual tokens, as they were."""
    return Clip(*(None if m is None else np.full_like(m, GREY) for m in (clip.video, clip.image)))


def _image_only(clip: Clip, rng: np.random.Generator) -> Clip:
    """The observation without the progress video."""
    return Clip(None, clip.image)


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
