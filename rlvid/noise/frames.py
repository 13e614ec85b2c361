"""Evidence noise: the video of a training sample is damaged or replaced, or its narrations are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np

from rlvid.errors import UserError
from rlvid.noise.base import Noise, check_rates, pick_at
from rlvid.registry import suggest
from rlvid.types import Prompt
from rlvid.utils.hashing import uniform_hash
from rlvid.utils.text import plain_words
from rlvid.video.views import MEAN_GREY, Clip

# By severity 1 to 5:
FRAME_SHARES = (0.1, 0.2, 0.3, 0.45, 0.6)  # share of the frames that is damaged; ours, since ImageNet-C has no videos
BLUR_SIGMAS = (1, 2, 3, 4, 6)  # ImageNet-C's Gaussian blur, in pixels of a frame whose shorter side has 224


@dataclass(frozen=True)
class Frames(Noise):
    """With probability `rate` a training video is always damaged, in one of five severities (as arXiv:1903.12261).

    `how`: "drop" (frames become grey), "shuffle" (frames change places), "freeze" (a stretch repeats its first frame)
    or "blur" (all frames). The shape and the image stay the same. A higher severity damages the same frames and more.
    """

    rate: float = 0.0
    how: str = "drop"
    severity: int = 3

    def __post_init__(self) -> None:
        check_rates(rate=self.rate)
        if self.how not in FRAME_DAMAGES:
            raise ValueError(f"no way {self.how!r} to damage frames.{suggest(self.how, FRAME_DAMAGES)}")
        if self.severity not in range(1, 6):
            raise ValueError(f"severity must be 1 to 5, not {self.severity}")

    def describe_changes(self, clean: Prompt, noisy: Prompt) -> dict[str, Any]:
        """Return how the prompt's video is damaged, {} if it is not."""
        is_damaged = clean.video and self.corruption_threshold(clean) < self.rate
        return {"frames": {"how": self.how, "severity": self.severity}} if is_damaged else {}

    def corrupt_clip(self, prompt: Prompt, clip: Clip) -> Clip:
        """Return the clip with its video damaged, if the prompt's threshold is below the rate."""
        if clip.video is None or self.corruption_threshold(prompt) >= self.rate:
            return clip
        order = sorted(range(len(clip.video)), key=lambda i: uniform_hash(self.seed, "frames", prompt.id, i))
        damage = FRAME_DAMAGES[self.how]
        return replace(clip, video=damage(clip.video, order, self.severity - 1))


# A frame damage gets the video, (T, H, W, 3) uint8, a random order of its T frames, and the severity counted from 0.
# It damages the first frames of the order, so that the frames of a lower severity are among those of a higher one.


def _drop(video: np.ndarray, order: list[int], severity: int) -> np.ndarray:
    dropped = order[: ceil(FRAME_SHARES[severity] * len(video))]
    damaged = np.array(video)
    damaged[dropped] = MEAN_GREY
    return damaged


def _shuffle(video: np.ndarray, order: list[int], severity: int) -> np.ndarray:
    """Each moved frame takes the position of the next one in the order, and the last that of the first."""
    moved = order[: max(2, ceil(FRAME_SHARES[severity] * len(video)))]
    damaged = np.array(video)
    damaged[moved] = video[np.roll(moved, 1)]
    return damaged


def _freeze(video: np.ndarray, order: list[int], severity: int) -> np.ndarray:
    """A stretch repeats its first frame. Of 10 frames at severity 3, with order[0] = 4:

    frame     0 1 2 3 4 5 6 7 8 9
    shown     0 1 2 3 4 4 4 4 8 9      1 + ceil(0.3 * 10) = 4 frames, of which 3 change
    """
    length = min(len(video), 1 + ceil(FRAME_SHARES[severity] * len(video)))
    start = min(order[0], len(video) - length)
    damaged = np.array(video)
    damaged[start : start + length] = video[start]
    return damaged


def _blur(video: np.ndarray, order: list[int], severity: int) -> np.ndarray:
    from PIL import Image, ImageFilter

    shorter_side = min(video.shape[1:3])
    blur = ImageFilter.GaussianBlur(BLUR_SIGMAS[severity] * shorter_side / 224)
    return np.stack([np.asarray(Image.fromarray(frame).filter(blur)) for frame in video])


FRAME_DAMAGES: dict[str, Callable[[np.ndarray, list[int], int], np.ndarray]] = {
    "drop": _drop,
    "shuffle": _shuffle,
    "freeze": _freeze,
    "blur": _blur,
}


@dataclass(frozen=True)
class WrongClip(Noise):
    """With probability `rate` a training sample has the video of another; image and question stay (ours).

    There is no severity. A prompt has one video, which is read, resized and cached by its path, and the frames of
    two clips may differ in size. So the video is replaced completely; `frames` damages a part of it.
    """

    rate: float = 0.0

    def __post_init__(self) -> None:
        check_rates(rate=self.rate)

    def corrupt_prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Return the training prompts, some with another's video. A prompt without a video stays without."""
        videos = sorted({prompt.video for prompt in prompts if prompt.video})
        return [
            self.replace_video(prompt, videos)
            if prompt.video and self.corruption_threshold(prompt) < self.rate
            else prompt
            for prompt in prompts
        ]

    def replace_video(self, prompt: Prompt, videos: Sequence[str]) -> Prompt:
        """Return the prompt with another one of the videos. Raises UserError if there is no other."""
        u = uniform_hash(self.seed, "wrong_clip", prompt.id, "to")
        other = pick_at(u, videos, lambda video: video != prompt.video)
        if other is None:
            raise UserError(f"wrong_clip: no training sample has another video than {prompt.id}")
        return replace(prompt, video=other)


@dataclass(frozen=True)
class Narrations(Noise):
    """With probability `rate` each narration is left out, or with `how` "replace" becomes another's (ours).

    The policy sees the same pixels as before: narrations are evidence for rewards.
    """

    rate: float = 0.0
    how: str = "drop"

    def __post_init__(self) -> None:
        check_rates(rate=self.rate)
        if self.how not in ("drop", "replace"):
            raise ValueError(f'how must be "drop" or "replace", not {self.how!r}')

    def corruption_threshold(self, prompt: Prompt) -> float:
        """Return the lowest threshold of the prompt's narrations, 1 if it has none."""
        indices = range(len(prompt.narrations))
        return min((self._narration_threshold(prompt, index) for index in indices), default=1.0)

    def corrupt_prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Return the training prompts, with fewer narrations or with wrong ones."""
        known = sorted({narration for prompt in prompts for narration in prompt.narrations})
        return [self._corrupt_narrations(prompt, known) for prompt in prompts]

    def _narration_threshold(self, prompt: Prompt, index: int) -> float:
        return uniform_hash(self.seed, "narrations", prompt.id, index)

    def _corrupt_narrations(self, prompt: Prompt, known: Sequence[str]) -> Prompt:
        """Return the prompt with its kept and replaced narrations, also in the table that holds their times."""
        kept: dict[int, str] = {}
        for index, narration in enumerate(prompt.narrations):
            if self._narration_threshold(prompt, index) >= self.rate:
                kept[index] = narration
            elif self.how == "replace":
                kept[index] = self._other_narration(prompt, index, known)
        timed = prompt.meta.get("task_progress_metadata", ())
        if len(timed) != len(prompt.narrations):
            return replace(prompt, narrations=tuple(kept.values()))
        rows = [{**timed[index], "narration_text": text} for index, text in kept.items()]
        meta = {**prompt.meta, "task_progress_metadata": rows} if timed else prompt.meta
        return replace(prompt, narrations=tuple(kept.values()), meta=meta)

    def _other_narration(self, prompt: Prompt, index: int, known: Sequence[str]) -> str:
        words = plain_words(prompt.narrations[index])
        u = uniform_hash(self.seed, "narrations", prompt.id, index, "to")
        other = pick_at(u, known, lambda narration: plain_words(narration) != words)
        if other is None:
            raise UserError(f"narrations: no training sample has another narration than {prompt.id}")
        return other


EVIDENCE_NOISES: dict[str, type[Noise]] = {"frames": Frames, "wrong_clip": WrongClip, "narrations": Narrations}
