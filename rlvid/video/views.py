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
SQUARE = 14  # pixels on each side of a square of the view "patches"


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
    """Raise UserError for a view that does not exist: a name that is not in `VIEWS`, or a strength out of range."""
    for name in names:
        parse_view(name)


def parse_view(view: str) -> tuple[str, float | None]:
    """Return the name and the strength of a view such as "blank" or "patches:0.6"; None without a strength.

    Raises UserError for an unknown name, and for a strength that the view does not take.
    """
    name, colon, text = view.partition(":")
    if name not in VIEWS:
        raise UserError(f"no view {name!r}.{suggest(name, VIEWS)}")
    if not colon:
        return name, None
    if name not in MAX_STRENGTH:
        raise UserError(f"view {view!r}: only {' and '.join(MAX_STRENGTH)} take a strength; write {name!r}")
    try:
        strength = float(text)
    except ValueError:
        strength = -1.0
    if not 0 <= strength <= MAX_STRENGTH[name]:
        raise UserError(f"view {view!r}: the strength of {name} must be from 0 to {MAX_STRENGTH[name]:g}, not {text!r}")
    return name, strength


def apply_view(view: str, clip: Clip, sample_id: str, seed: int | str = 0) -> Clip:
    """Return one of `VIEWS` of a clip; the clip itself does not change.

    The random numbers come from a hash of seed, name and sample id, so the result is the same in every step, process
    and run. They are the same for every strength.

    Args:
        view: a name of `VIEWS`, which may have a strength, such as "patches:0.6".
        clip: the frames and the image, resized as the policy sees them.
        sample_id: of the prompt.
        seed: another one gives other random numbers.

    Raises:
        UserError: for an unknown name, or a strength that the view does not take.
    """
    name, strength = parse_view(view)
    digest = hashlib.blake2b(f"{seed}|{name}|{sample_id}".encode(), digest_size=8).digest()
    arguments = () if strength is None else (strength,)
    return VIEWS[name](clip, np.random.default_rng(int.from_bytes(digest)), *arguments)


def same_pixels(clip: Clip, other: Clip) -> bool:
    """Return whether two clips show the same: nothing can be learnt from a view that leaves a clip as it is."""
    pairs = ((clip.video, other.video), (clip.image, other.image))
    return all(a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs)


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


def _patches(clip: Clip, rng: np.random.Generator, probability: float = 0.5) -> Clip:
    """Squares of 14x14 pixels black, each with probability 0.5; `patches:0.6` with 0.6 (as VPPO, arXiv:2510.09285).

    All frames of a video have the same squares: else what a square hides would show in the next frame. The image has
    squares of its own.
    """
    return _map_media(lambda pixels: _blacken(pixels, rng, probability), clip)


def _blacken(pixels: np.ndarray, rng: np.random.Generator, probability: float) -> np.ndarray:
    height, width = pixels.shape[-3:-1]
    black = rng.random((-(-height // SQUARE), -(-width // SQUARE))) < probability
    mask = black.repeat(SQUARE, 0).repeat(SQUARE, 1)[:height, :width]
    return np.where(mask[..., None], np.uint8(0), pixels)


def _noise(clip: Clip, rng: np.random.Generator, step: float = 500) -> Clip:
    """Gaussian noise as at step 500 of 1,000 of a diffusion; `noise:450` at 450 (as NoisyRollout, arXiv:2504.13055).

    x_k = sqrt(a_k) x + sqrt(1 - a_k) e with x in [0, 1], cut to that range, a_k = prod_{i <= k} (1 - beta_i) and
    beta_i = sigmoid(l_i) (5e-3 - 1e-5) + 1e-5, where l_i goes from -6 to 6. The noise's standard deviation
    sqrt(1 - a_k) is 0.41 at step 450, 0.51 at step 500. Every pixel of every frame has noise of its own.
    """
    kept = diffusion_kept(int(step))
    return _map_media(lambda pixels: _diffuse(pixels, rng, kept), clip)


def diffusion_kept(step: int) -> float:
    """Return a_k, the share of an image's variance that is left at a step from 0 to 999 (see the view "noise")."""
    betas = (5e-3 - 1e-5) / (1 + np.exp(-np.linspace(-6, 6, 1000))) + 1e-5
    return float(np.prod(1 - betas[: step + 1]))


def _diffuse(pixels: np.ndarray, rng: np.random.Generator, kept: float) -> np.ndarray:
    noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    mixed = np.float32(np.sqrt(kept) / 255) * pixels + np.float32(np.sqrt(1 - kept)) * noise
    return (mixed.clip(0, 1) * 255).round().astype(np.uint8)


def _crop(clip: Clip, rng: np.random.Generator, share: float = 0.8) -> Clip:
    """A window of 0.8 of the width, the height and the time, `crop:0.6` of 0.6, at the size and number of frames.

    The window lies at random. Its pixels and frames are repeated to the original shape (nearest neighbours), so the
    number of visual tokens stays the same. The image has a window of its own.
    """
    return _map_media(lambda pixels: _window(pixels, rng, share), clip)


def _window(pixels: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    for axis in range(pixels.ndim - 1):  # all but the colours
        length = pixels.shape[axis]
        size = max(1, round(share * length))
        start = int(rng.random() * (length - size + 1))
        pixels = pixels.take(start + np.arange(length) * size // length, axis)
    return pixels


def _map_media(change: Callable[[np.ndarray], np.ndarray], clip: Clip) -> Clip:
    """Change the video, and then the image, as far as there is one."""
    video = None if clip.video is None else change(clip.video)
    image = None if clip.image is None else change(clip.image)
    return replace(clip, video=video, image=image)


VIEWS: dict[str, Callable[..., Clip]] = {  # name -> function of a clip, random numbers and, for some, a strength
    "shuffled": _shuffled,
    "reversed": _reversed,
    "blank": _blank,
    "image_only": _image_only,
    "text_only": _text_only,
    "patches": _patches,
    "noise": _noise,
    "crop": _crop,
}
MAX_STRENGTH = {"patches": 1.0, "noise": 999.0, "crop": 1.0}
