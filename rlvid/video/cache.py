"""Cache resized frames on disk, so that each clip is decoded once per machine for all epochs and runs.

There is one file per clip: the .npy of its frames, opened memory-mapped, and after it the .npy of their clock. Its name
is a hash of the video file's identity (path, size, modification time) and of the settings that choose and resize its
frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from math import ceil
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from rich.console import Console
from rich.progress import Progress

from rlvid.config import VideoConfig
from rlvid.errors import UserError
from rlvid.types import Prompt
from rlvid.video.decode import Decoder
from rlvid.video.read import (
    BadVideo,
    Clock,
    Frames,
    check_file,
    read_image,
    read_with_decord,
    read_with_pyav,
    split_time_span,
)
from rlvid.video.resize import IMAGE_FACTOR, read_resized, resize, target_size
from rlvid.video.store import Store
from rlvid.video.views import Clip

READERS = read_with_decord, read_with_pyav


class FrameCache:
    """Returns the pixels of prompts at the size at which they are shown, from the disk cache or by decoding.

    Args:
        video: how frames are chosen and resized, and the cache's folder.
        image_factor: pixels on each side of the model's visual tokens.

    Attributes:
        hits: number of clips read from the cache.
        misses: number of clips decoded.
        rebuilt: number of damaged cache files that were deleted and decoded anew.
        fallbacks: number of clips that only PyAV could read.
        failures: number of files that cannot be read; each is tried once.
    """

    def __init__(self, video: VideoConfig, image_factor: int = IMAGE_FACTOR) -> None:
        self.video, self.image_factor = video, image_factor
        decord, pyav = (partial(read_resized, reader, factor=image_factor) for reader in READERS)
        self.decoder = Decoder(video, (decord, pyav))
        self.store = Store(video, "frame")
        self.hits = self.misses = self.rebuilt = 0
        self.bad_files: dict[str, str] = {}  # path -> what is wrong with it
        self.lock = Lock()  # a prefetch thread reads prompts, too

    @property
    def fallbacks(self) -> int:
        return self.decoder.fallbacks

    @property
    def failures(self) -> int:
        return len(self.bad_files)

    def __call__(self, prompt: Prompt) -> Clip:
        """Return the prompt's video and image, resized. Raises BadVideo."""
        with self.lock:
            try:
                video = self._load_video(prompt.id, prompt.video) if prompt.video else None
                image = self._load_image(prompt.id, prompt.image) if prompt.image else None
            except BadVideo as error:
                self.bad_files[error.path] = error.reason
                raise
            return Clip(image=image) if video is None else Clip(video.pixels, image, video.clock)

    def warm(self, prompts: Iterable[Prompt], progress: bool = False) -> list[BadVideo]:
        """Decode all videos that are not cached yet, in parallel.

        Images are only checked to be there.

        Args:
            prompts: whose media are read.
            progress: show a progress bar if stderr is a terminal.

        Returns:
            One BadVideo for each prompt and each of its files that cannot be read.
        """
        prompts = list(prompts)
        missing: dict[str, tuple[str, Path]] = {}  # path of a video -> id of a sample that shows it, cache file
        for prompt in prompts:
            try:
                if prompt.image:
                    check_file(prompt.id, prompt.image)
                if prompt.video and not (cache_path := self._cache_path(prompt.id, prompt.video)).exists():
                    missing[prompt.video] = prompt.id, cache_path
            except BadVideo as error:
                self.bad_files[error.path] = error.reason
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not (progress and console.is_terminal)) as bar:
            task = bar.add_task("decoding videos", total=len(missing))
            for path, frames in self.decoder.decode((sample, path) for path, (sample, _) in missing.items()):
                bar.advance(task)
                if isinstance(frames, BadVideo):
                    self.bad_files[path] = frames.reason
                else:
                    self._save(*missing[path], path, frames)
        return [
            BadVideo(prompt.id, path, self.bad_files[path])
            for prompt in prompts
            for path in (prompt.video, prompt.image)
            if path in self.bad_files
        ]

    def size_warning(self, prompts: Iterable[Prompt]) -> str | None:
        """Return a warning if the videos of some prompts may not fit in the cache together; None if they do.

        The estimate is for clips of `max_frames` frames of the largest size, so it may be too high.
        """
        video = self.video
        clips = len({prompt.video for prompt in prompts if prompt.video})
        pixels = video.max_pixels
        if video.resized_height and video.resized_width:
            height, width = target_size(video.resized_height, video.resized_width, video, self.image_factor)
            pixels = height * width
        needed_gb = clips * video.max_frames * pixels * 3 / 1e9
        if needed_gb <= video.cache_gb:
            return None
        return (
            f"video.cache_gb = {video.cache_gb:g} may be too small: {clips} clips take up to {needed_gb:.3g} GB as "
            f"frames, and what does not fit is decoded again at each use; set video.cache_gb={ceil(needed_gb)}"
        )

    def largest(self, prompts: Iterable[Prompt]) -> list[Prompt]:
        """Return the prompt whose cached video has the most pixels; none if no video is cached."""
        cached = [prompt for prompt in prompts if prompt.video and self._cache_path(prompt.id, prompt.video).exists()]
        sizes = [self._cache_path(prompt.id, str(prompt.video)).stat().st_size for prompt in cached]
        return [cached[sizes.index(max(sizes))]] if cached else []

    def close(self) -> None:
        """End the decoding processes. The next video that must be decoded starts them again."""
        self.decoder.close()

    def _load_video(self, sample: str, path: str) -> Frames:
        self._raise_if_known_bad(sample, path)
        cache_path = self._cache_path(sample, path)
        cached = self._open(cache_path)
        if cached is not None:
            self.hits += 1
            self.store.touch(cache_path)
            return cached
        _, frames = next(self.decoder.decode([(sample, path)]))
        if isinstance(frames, BadVideo):
            raise frames
        return self._save(sample, cache_path, path, frames)

    def _load_image(self, sample: str, path: str) -> np.ndarray:
        self._raise_if_known_bad(sample, path)
        image = read_image(sample, path)
        try:
            return resize(image[None], self.video, self.image_factor)[0]
        except UserError as error:
            raise BadVideo(sample, path, str(error)) from error

    def _raise_if_known_bad(self, sample: str, path: str) -> None:
        if path in self.bad_files:
            raise BadVideo(sample, path, self.bad_files[path])

    def _cache_path(self, sample: str, path: str) -> Path:
        """The cache file of a clip, whether or not it exists. Raises BadVideo if there is no such video."""
        check_file(sample, path)
        name, *span = split_time_span(path)
        file, video = Path(name).resolve(), self.video
        status = file.stat()
        sampling = video.fps, video.min_frames, video.max_frames, *span
        size = video.resized_height, video.resized_width, video.min_pixels, video.max_pixels, self.image_factor
        return self.store.path_for("with clock", str(file), status.st_size, status.st_mtime_ns, sampling, size)

    def _open(self, cache_path: Path) -> Frames | None:
        """The frames in a cache file, or None if there is none; a damaged file is deleted and counted."""
        try:
            pixels = np.load(cache_path, mmap_mode="r")
            with cache_path.open("rb") as file:
                file.seek(pixels.offset + pixels.nbytes)
                numbers = np.load(file)
            if pixels.dtype == np.uint8 and pixels.ndim == 4 and numbers.shape in ((len(pixels) + 1,), (0,)):
                return Frames(pixels, Clock(numbers[1:], float(numbers[0])) if len(numbers) else None)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.store.as_user_error(error) from error
        except (ValueError, EOFError):
            pass
        self.rebuilt += 1
        cache_path.unlink(missing_ok=True)
        return None

    def _save(self, sample: str, cache_path: Path, path: str, frames: Frames) -> Frames:
        """Write decoded frames to the cache, and return them.

        `cache_path` is that of the file before it was decoded. If the file has changed since, or is gone, nobody knows
        which content the frames show, and they are not cached.
        """

        def write(file: BinaryIO) -> None:
            np.save(file, frames.pixels)
            np.save(file, np.empty(0) if frames.clock is None else [frames.clock.sampled_fps, *frames.clock.times])

        self.misses += 1
        with suppress(BadVideo):
            if self._cache_path(sample, path) == cache_path:
                self.store.write(cache_path, frames.pixels.nbytes, write)
        return frames
