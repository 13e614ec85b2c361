"""Bad evidence: the video of a training sample is damaged or another's, or its narrations are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np

from rlvid.errors import UserError
from rlvid.noise.base import Noise, check_rates, pick
from rlvid.registry import suggest
from rlvid.types import Prompt
from rlvid.utils.hashing import uniform_hash
from rlvid.utils.text import plain_words
from rlvid.video.views import MEAN_GREY, Clip

SHARES = (0.1, 0.2, 0.3, 0.45, 0.6)  # of the frames, by severity: ours, since ImageNet-C has no videos
SIGMAS = (1, 2, 3, 4, 6)  # pixels of a side of 224, by severity: ImageNet-C's Gaussian blur


@dataclass(frozen=True)
class Frames(Noise):
    """With probability `rate` a training video is damaged for good, in one of five severities (as arXiv:1903.12261).

    `how`: "drop" (frames go grey), "shuffle" (frames change places), "freeze" (a stretch shows its first frame) or
    "blur" (all frames). Shapes stay as they were, the image too, and worse severities hit the same frames and more.
    """

    rate: float = 0.0
    how: str = "drop"
    severity: int = 3

    def __post_init__(self) -> None:
        check_rates(rate=self.rate)
        if self.how not in HOW:
            raise ValueError(f"no way {self.how!r} to damage frames.{suggest(self.how, HOW)}")
        if self.severity not in range(1, 6):
            raise ValueError(f"severity must be 1 to 5, not {self.severity}")

    def changes(self, clean: Prompt, noisy: Prompt) -> dict[str, Any]:
        """Which videos are shown damaged, and how."""
        damaged = clean.video and self.u(clean) < self.rate
        return {"frames": {"how": self.how, "severity": self.severity}} if damaged else {}

    def corrupt_clip(self, prompt: Prompt, clip: Clip) -> Clip:
        if clip.video is None or self.u(prompt) >= self.rate:
            return clip
        order = sorted(range(len(clip.video)), key=lambda i: uniform_hash(self.seed, "frames", prompt.id, i))
        return Clip(HOW[self.how](clip.video, order, self.severity - 1), clip.image)


def _drop(video: np.ndarray, order: list[int], severity: int) -> np.ndarray:
    damaged = np.array(video)
    damaged[order[: ceil(SHARES[severity] * len(video))]] = MEAN_GREY
    return damaged


def _shuffle(video: np.ndarray, order: list[int], severity: int) -> np.ndarray:
    moved = order[: max(2, ceil(SHARES[severity] * len(video)))]
    damaged = np.array(video)
    damaged[moved] = video[np.roll(moved, 1)]
    return damaged


def _freeze(video: np.ndarray, order: list[int], severity: int) -> np.ndarray:
    stuck = min(len(video), 1 + ceil(SHARES[severity] * len(video)))
    start = min(order[0], len(video) - stuck)
    damaged = np.array(video)
    damaged[start : start + stuck] = video[start]
    return damaged


def _blur(video: np.ndarray, order: list[int], severity: int) -> np.ndarray:
    from PIL import Image, ImageFilter

    sigma = SIGMAS[severity] * min(video.shape[1:3]) / 224
    return np.stack([np.asarray(Image.fromarray(f).filter(ImageFilter.GaussianBlur(sigma))) for f in video])


HOW: dict[str, Callable[[np.ndarray, list[int], int], np.ndarray]] = {
    "drop": _drop,
    "shuffle": _shuffle,
    "freeze": _freeze,
    "blur": _blur,
}


@dataclass(frozen=True)
class WrongClip(Noise):
    """With probability `rate` a training sample has the video of another; image and question stay (ours).

    There is no severity: a prompt has one video, found, decoded, sized and cached by its path, and frames of two clips
    need not have one size. So it is another's as a whole; `frames` damages part of a clip.
    """

    rate: float = 0.0

    def __post_init__(self) -> None:
        check_rates(rate=self.rate)

    def corrupt_prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The training prompts, each with its video or another's; those without one stay so."""
        videos = sorted({prompt.video for prompt in prompts if prompt.video})
        return [self.swapped(p, videos) if p.video and self.u(p) < self.rate else p for p in prompts]

    def swapped(self, prompt: Prompt, videos: Sequence[str]) -> Prompt:
        """The prompt with another of the videos."""
        other = pick(
            uniform_hash(self.seed, "wrong_clip", prompt.id, "to"), videos, lambda video: video != prompt.video
        )
        if other is None:
            raise UserError(f"wrong_clip: no training sample has another video than {prompt.id}")
        return replace(prompt, video=other)


@dataclass(frozen=True)
class Narrations(Noise):
    """With probability `rate` each narration is left out, or with `how` "replace" becomes another's (ours).

    What the policy sees stays as it is: narrations are evidence for rewards.
    """

    rate: float = 0.0
    how: str = "drop"

    def __post_init__(self) -> None:
        check_rates(rate=self.rate)
        if self.how not in ("drop", "replace"):
            raise ValueError(f'how must be "drop" or "replace", not {self.how!r}')

    def u(self, prompt: Prompt) -> float:
        """That of its first narration to go."""
        return min((self._u(prompt, i) for i in range(len(prompt.narrations))), default=1.0)

    def corrupt_prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The training prompts, with fewer narrations or with wrong ones."""
        known = sorted({narration for prompt in prompts for narration in prompt.narrations})
        return [replace(prompt, narrations=tuple(self._kept(prompt, known))) for prompt in prompts]

    def _u(self, prompt: Prompt, place: int) -> float:
        return uniform_hash(self.seed, "narrations", prompt.id, place)

    def _kept(self, prompt: Prompt, known: Sequence[str]) -> list[str]:
        kept = []
        for place, narration in enumerate(prompt.narrations):
            if self._u(prompt, place) >= self.rate:
                kept.append(narration)
            elif self.how == "replace":
                kept.append(self._other(prompt, place, known))
        return kept

    def _other(self, prompt: Prompt, place: int, known: Sequence[str]) -> str:
        said = plain_words(prompt.narrations[place])
        u = uniform_hash(self.seed, "narrations", prompt.id, place, "to")
        other = pick(u, known, lambda narration: plain_words(narration) != said)
        if other is None:
            raise UserError(f"narrations: no training sample has another narration than {prompt.id}")
        return other


EVIDENCE: dict[str, type[Noise]] = {"frames": Frames, "wrong_clip": WrongClip, "narrations": Narrations}
