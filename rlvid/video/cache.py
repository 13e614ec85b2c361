"""Frames as they are shown: each clip is decoded and resized once per machine, whatever the number of epochs and runs.

One .npy per clip, named by the hash of the file's identity (path, size, time of change) and of how its frames are
chosen and resized; opened memory-mapped.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
from rich.console import Console
from rich.progress import Progress

from rlvid.config import VideoConfig
from rlvid.errors import UserError
from rlvid.types import Prompt
from rlvid.video.decode import Decoder
from rlvid.video.read import BadVideo, by_decord, by_pyav, check_file, located, read_image
from rlvid.video.resize import resize, shown
from rlvid.video.store import Store
from rlvid.video.views import Clip

READERS = partial(shown, by_decord), partial(shown, by_pyav)


class Frames:
    """The pixels of prompts at the size at which they are shown, from the disk cache or else decoded.

    Counters: `hits` from the cache, `misses` decoded, `rebuilt` cache files found damaged, `fallbacks` clips that
    needed PyAV, `failures` files that cannot be read; each of these is tried once.
    """

    def __init__(self, video: VideoConfig) -> None:
        self.video = video
        self.decoder = Decoder(video, READERS)
        self.store = Store(video, "frame")
        self.hits = self.misses = self.rebuilt = 0
        self.bad: dict[str, str] = {}  # path -> what is wrong with it
        self.lock = Lock()  # prompts are read ahead by a thread

    @property
    def fallbacks(self) -> int:
        return self.decoder.fallbacks

    @property
    def failures(self) -> int:
        return len(self.bad)

    def __call__(self, prompt: Prompt) -> Clip:
        """The prompt's video and image; raises BadVideo."""
        with self.lock:
            try:
                video = self._video(prompt.id, prompt.video) if prompt.video else None
                return Clip(video, self._image(prompt.id, prompt.image) if prompt.image else None)
            except BadVideo as error:
                self.bad[error.path] = error.reason
                raise

    def warm(self, prompts: Iterable[Prompt], progress: bool = False) -> list[BadVideo]:
        """Decode in parallel whatever is not cached yet; return, for each prompt, which of its files cannot be read.

        Of images it is only asked whether they are there.
        """
        prompts, missing = list(prompts), {}
        for prompt in prompts:
            try:
                if prompt.image:
                    check_file(prompt.id, prompt.image)
                if prompt.video and not self._place(prompt.id, prompt.video).exists():
                    missing[prompt.video] = prompt.id
            except BadVideo as error:
                self.bad[error.path] = error.reason
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not (progress and console.is_terminal)) as bar:
            task = bar.add_task("decoding videos", total=len(missing))
            for path, frames in self.decoder((sample, path) for path, sample in missing.items()):
                bar.advance(task)
                if isinstance(frames, BadVideo):
                    self.bad[path] = frames.reason
                else:
                    self._keep(self._place(missing[path], path), frames)
        return [
            BadVideo(p.id, path, self.bad[path]) for p in prompts for path in (p.video, p.image) if path in self.bad
        ]

    def close(self) -> None:
        """End the decoding processes."""
        self.decoder.close()

    def _video(self, sample: str, path: str) -> np.ndarray:
        self._refuse_known(sample, path)
        place = self._place(sample, path)
        cached = self._open(place)
        if cached is not None:
            self.hits += 1
            self.store.touch(place)
            return cached
        _, frames = next(self.decoder([(sample, path)]))
        if isinstance(frames, BadVideo):
            raise frames
        return self._keep(place, frames)

    def _image(self, sample: str, path: str) -> np.ndarray:
        self._refuse_known(sample, path)
        image = read_image(sample, path)
        try:
            return resize(image[None], self.video)[0]
        except UserError as error:
            raise BadVideo(sample, path, str(error)) from error

    def _refuse_known(self, sample: str, path: str) -> None:
        if path in self.bad:
            raise BadVideo(sample, path, self.bad[path])

    def _place(self, sample: str, path: str) -> Path:
        """Where this clip's frames are, or will be."""
        check_file(sample, path)
        name, *span = located(path)
        file, how = Path(name).resolve(), self.video
        about = file.stat()
        chosen = how.fps, how.min_frames, how.max_frames, *span
        sized = how.resized_height, how.resized_width, how.min_pixels, how.max_pixels
        return self.store.place(str(file), about.st_size, about.st_mtime_ns, chosen, sized)

    def _open(self, place: Path) -> np.ndarray | None:
        """The frames in a cache file, or None where there is none; a damaged file is deleted and counted."""
        try:
            frames = np.load(place, mmap_mode="r")
            if frames.dtype == np.uint8 and frames.ndim == 4:
                return frames
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.store.unusable(error) from error
        except (ValueError, EOFError):
            pass
        self.rebuilt += 1
        place.unlink(missing_ok=True)
        return None

    def _keep(self, place: Path, frames: np.ndarray) -> np.ndarray:
        """Write what was decoded to the cache."""
        self.misses += 1
        self.store.write(place, frames.nbytes, partial(np.save, arr=frames))
        return frames
