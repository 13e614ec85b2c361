"""Decoded frames on disk: each clip is decoded once per machine, whatever the number of epochs, runs and algorithms.

One .npy per clip, named by the hash of the file's identity (path, size, time of change) and of how frames are chosen;
opened memory-mapped; written under another name and then renamed, so that runs may share the folder; the least
recently used are deleted when the folder outgrows `video.cache_gb` (whoever has one open keeps it whole).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from rlvid.config import Video
from rlvid.errors import UserError
from rlvid.types import Prompt
from rlvid.video.decode import Decoder
from rlvid.video.read import BadVideo, check_file, read_image
from rlvid.video.views import Clip


class Frames:
    """The pixels of prompts, from the disk cache or else decoded.

    Counters: `hits` from the cache, `misses` decoded, `rebuilt` cache files found damaged, `fallbacks` clips that
    needed PyAV, `failures` files that cannot be read; each of these is tried once.
    """

    def __init__(self, video: Video) -> None:
        self.video = video
        self.decoder = Decoder(video)
        self.hits = self.misses = self.rebuilt = 0
        self.bad: dict[str, str] = {}  # path -> what is wrong with it
        base = os.environ.get("RLVID_CACHE") or Path.home() / ".cache" / "rlvid"
        self.folder = Path(video.cache_dir or base).expanduser() / "frames"
        self.room = 0.0  # bytes that may be written before the folder is measured again
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    @property
    def fallbacks(self) -> int:
        return self.decoder.fallbacks

    @property
    def failures(self) -> int:
        return len(self.bad)

    def __call__(self, prompt: Prompt) -> Clip:
        """The prompt's video and image; raises BadVideo."""
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
            with suppress(OSError):  # evicted just now, or another user's: then it only seems less recently used
                os.utime(place)
            return cached
        _, frames = next(self.decoder([(sample, path)]))
        if isinstance(frames, BadVideo):
            raise frames
        return self._keep(place, frames)

    def _image(self, sample: str, path: str) -> np.ndarray:
        self._refuse_known(sample, path)
        return read_image(sample, path)

    def _refuse_known(self, sample: str, path: str) -> None:
        if path in self.bad:
            raise BadVideo(sample, path, self.bad[path])

    def _place(self, sample: str, path: str) -> Path:
        """Where this clip's frames are, or will be."""
        check_file(sample, path)
        file, how = Path(path).resolve(), self.video
        about = file.stat()
        identity = str(file), about.st_size, about.st_mtime_ns, how.fps, how.min_frames, how.max_frames
        return self.folder / f"{hashlib.sha256(repr(identity).encode()).hexdigest()[:32]}.npy"

    def _open(self, place: Path) -> np.ndarray | None:
        """The frames in a cache file, or None where there is none; a damaged file is deleted and counted."""
        try:
            frames = np.load(place, mmap_mode="r")
            if frames.dtype == np.uint8 and frames.ndim == 4:
                return frames
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error
        except (ValueError, EOFError):
            pass
        self.rebuilt += 1
        place.unlink(missing_ok=True)
        return None

    def _keep(self, place: Path, frames: np.ndarray) -> np.ndarray:
        """Write what was decoded to the cache."""
        self.misses += 1
        part = place.with_name(f"{place.stem}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                np.save(file, frames)
            part.replace(place)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise self._unusable(error) from error
        self.room -= frames.nbytes
        if self.room < 0:
            self._evict()
        return frames

    def _unusable(self, error: OSError) -> UserError:
        return UserError(
            f"frame cache {self.folder}: {error.strerror or error}; make room, or set video.cache_dir to another"
        )

    def _evict(self) -> None:
        """Delete the least recently used until the folder fits, and what killed runs left half-written."""
        files, now = [], time.time()
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):  # another run was quicker
                about = entry.stat()
                if entry.name.endswith(".npy") or now - about.st_mtime > 3600:
                    files.append((about.st_mtime_ns, about.st_size, Path(entry.path)))
        limit, used = self.video.cache_gb * 1e9, sum(size for _, size, _ in files)
        for _, size, file in sorted(files):
            if used <= limit:
                break
            file.unlink(missing_ok=True)
            used -= size
        self.room = (limit - used) / 2  # half of it: other runs write here too
