"""A folder of files that are quicker to read than to make again: bounded, and shared by all runs of a machine.

A file is named by the hash of what it was made from, written under another name and then renamed. The least recently
used are deleted when the folder outgrows `video.cache_gb`; whoever has one open keeps it whole.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from rlvid.config import VideoConfig
from rlvid.errors import UserError


class Store:
    """The files of one kind, in `KINDs/` of the cache folder. Every method raises UserError where it cannot work."""

    def __init__(self, video: VideoConfig, kind: str) -> None:
        base = os.environ.get("RLVID_CACHE") or Path.home() / ".cache" / "rlvid"
        self.kind = kind
        self.folder = Path(video.cache_dir or base).expanduser() / f"{kind}s"
        self.limit = video.cache_gb * 1e9
        self.room = 0.0  # bytes that may be written before the folder is measured again
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self.unusable(error) from error

    def place(self, *origin: object) -> Path:
        """Where what is made from this is, or will be."""
        return self.folder / hashlib.sha256(repr(origin).encode()).hexdigest()[:32]

    def touch(self, place: Path) -> None:
        """It has been used just now."""
        with suppress(OSError):  # evicted just now, or another user's: then it only seems less recently used
            os.utime(place)

    def write(self, place: Path, size: int, fill: Callable[[BinaryIO], object]) -> None:
        """Keep what `fill` writes, some `size` bytes."""
        part = place.with_name(f"{place.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                fill(file)
            with suppress(FileNotFoundError):  # swept by a run whose clock is ahead: then it is not kept
                part.replace(place)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise self.unusable(error) from error
        self.room -= size
        if self.room < 0:
            self._evict()

    def unusable(self, error: OSError) -> UserError:
        """What to tell the user whose disk this happened on."""
        return UserError(
            f"{self.kind} cache {self.folder}: {error.strerror or error}; make room, or set video.cache_dir to another"
        )

    def _evict(self) -> None:
        """Delete the least recently used until the folder fits, and what killed runs left half-written."""
        files, now = [], time.time()
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):  # another run was quicker
                about = entry.stat()
                if not entry.name.endswith(".part") or now - about.st_mtime > 3600:
                    files.append((about.st_mtime_ns, about.st_size, Path(entry.path)))
        used = sum(size for _, size, _ in files)
        for _, size, file in sorted(files):
            if used <= self.limit:
                break
            file.unlink(missing_ok=True)
            used -= size
        self.room = (self.limit - used) / 2  # half of it: other runs write here too
