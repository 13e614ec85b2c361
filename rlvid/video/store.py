"""A disk cache of limited size that all runs on a machine share.

A file is named by a hash of what its content was made from. It is written under another name and then renamed, so that
no reader sees half of it. When the folder outgrows `video.cache_gb`, the least recently used files are deleted; a
process that has one of them open can still read all of it.
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

PART_FILE_LIFETIME = 3600  # seconds after which a .part file must be the rest of a killed run
FULL_AFTER_EVICTION = 0.9  # of the limit: room for many writes until the folder is scanned and files are deleted again


class Store:
    """The cached files of one kind, in `KINDs/` of the cache folder. Its methods raise UserError if the disk fails.

    The cache folder is `video.cache_dir`, else $RLVID_CACHE, else ~/.cache/rlvid.

    Args:
        video: gives `cache_dir` and `cache_gb`.
        kind: what the files hold, such as "frame".
    """

    def __init__(self, video: VideoConfig, kind: str) -> None:
        default_dir = os.environ.get("RLVID_CACHE") or Path.home() / ".cache" / "rlvid"
        self.kind = kind
        self.folder = Path(video.cache_dir or default_dir).expanduser() / f"{kind}s"
        self.max_bytes = video.cache_gb * 1e9
        self.bytes_until_eviction = 0.0  # they may be written before the folder is measured again
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self.as_user_error(error) from error

    def path_for(self, *origin: object) -> Path:
        """Return the path of the file made from these values, whether or not it exists."""
        return self.folder / hashlib.sha256(repr(origin).encode()).hexdigest()[:32]

    def touch(self, path: Path) -> None:
        """Mark a file as just used."""
        with suppress(OSError):  # just deleted, or another user's: then it only seems less recently used
            os.utime(path)

    def write(self, path: Path, size: int, write_content: Callable[[BinaryIO], object]) -> None:
        """Write a file in one step, and delete others if the folder is full.

        Args:
            path: from `path_for`.
            size: about how many bytes are written.
            write_content: writes the bytes to an open file.
        """
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                write_content(file)
            with suppress(FileNotFoundError):  # deleted by a run whose clock is ahead: then it is not cached
                part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise self.as_user_error(error) from error
        self.bytes_until_eviction -= size
        if self.bytes_until_eviction < 0:
            self._evict()

    def as_user_error(self, error: OSError) -> UserError:
        """Return an error of the disk as one line with its fix."""
        return UserError(
            f"{self.kind} cache {self.folder}: {error.strerror or error}; "
            "free disk space, or set video.cache_dir to another folder"
        )

    def _evict(self) -> None:
        """If the folder is over its limit, delete the least recently used files until it is at 90 % of it.

        Unfinished files of killed runs count too.
        """
        files, now = [], time.time()
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):  # another run has just deleted it
                status = entry.stat()
                if not entry.name.endswith(".part") or now - status.st_mtime > PART_FILE_LIFETIME:
                    files.append((status.st_mtime_ns, status.st_size, Path(entry.path)))
        used = sum(size for _, size, _ in files)
        kept_bytes = self.max_bytes if used <= self.max_bytes else FULL_AFTER_EVICTION * self.max_bytes
        for _, size, file in sorted(files):  # the oldest first
            if used <= kept_bytes:
                break
            file.unlink(missing_ok=True)
            used -= size
        self.bytes_until_eviction = (self.max_bytes - used) / 2  # half of the free space: other runs write here too
