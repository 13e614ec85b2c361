"""From files to frames: decord in worker processes, PyAV where decord cannot, Pillow for images.

decord can loop for ever in native code while it holds the GIL, so every clip is read in another process under the
kernel's alarm clock. SIGALRM's default action ends that process whatever its threads are doing, also when the parent
has died; the parent sees the pipe close, says so, and starts a new worker for the next clip.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import ceil
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from rlvid.config import Video
from rlvid.errors import UserError

Reader = Callable[[str, Video], np.ndarray]


class BadVideo(UserError):
    """A video or an image that cannot be read. Nothing is ever shown in its place."""

    def __init__(self, sample: str, path: str, reason: str) -> None:
        super().__init__(f"sample {sample}: {path}: {reason}")
        self.sample, self.path, self.reason = sample, path, reason


class Unreadable(Exception):
    """What is wrong with a file, as a reader found it."""


def frame_indices(total: int, native_fps: float, video: Video) -> list[int]:
    """Which of a clip's `total` frames are shown: an even number, evenly spaced, first and last included.

    As the paper's `qwen_vl_utils/vision_process_egoplan.py` (arXiv:2503.24376); besides, a one-frame clip gives its one
    frame, and an unknown frame rate (0) takes as many as are allowed.
    """
    if total == 1:
        return [0]
    fewest, most = ceil(video.min_frames / 2) * 2, video.max_frames // 2 * 2
    wanted = total / native_fps * video.fps if native_fps > 0 else most
    count = int(min(max(wanted, fewest), most, total)) // 2 * 2
    return [round(i * (total - 1) / (count - 1)) for i in range(count)]


def by_decord(path: str, video: Video) -> np.ndarray:
    """The chosen frames of an mp4 or mov, (T, H, W, 3) uint8, turned as the file's display matrix says.

    Other containers are refused: decord returns wrong frames from AVI and MPEG-TS, without a word, and reads a
    truncated Matroska file as if it were whole.
    """
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    with Path(path).open("rb") as file:
        if file.read(8)[4:] != b"ftyp":
            raise Unreadable("no mp4")
    reader = decord.VideoReader(path, num_threads=1, fault_tol=1e-9)  # a frame it had to make up is an error
    return reader.get_batch(frame_indices(len(reader), reader.get_avg_fps(), video)).asnumpy()


def by_pyav(path: str, video: Video) -> np.ndarray:
    """The same frames of any container and codec that FFmpeg reads, decoded from the start."""
    import av

    try:
        total, rate = _survey(path)
        while True:
            frames, decoded = _pick(path, set(frame_indices(total, rate, video)))
            if decoded == total:
                return np.stack(frames)
            if not decoded:
                raise Unreadable("holds no frame that decodes")
            total = decoded  # the container counts frames that do not decode: choose among those that do
    except av.error.FFmpegError as error:
        raise Unreadable(f"does not decode to its end ({error.strerror}); copy it again") from error


def _survey(path: str) -> tuple[int, float]:
    """How many frames a file holds and their rate, by its packets; refuses a file that ends before its header says."""
    import av

    try:
        container = av.open(path)
    except av.error.InvalidDataError as error:
        with Path(path).open("rb") as file:
            mp4 = file.read(8)[4:] == b"ftyp"
        lost = "truncated: its index (moov) is missing; copy it again"
        raise Unreadable(lost if mp4 else "no video file: its content is of no known format") from error
    with container:
        if not container.streams.video:
            raise Unreadable("holds no video stream")
        stream = container.streams.video[0]
        ends = [(p.pts or 0) + (p.duration or 0) for p in container.demux(stream) if p.size]
        if not ends:
            raise Unreadable("holds a video stream without frames")
        if len(ends) < stream.frames:
            raise Unreadable(f"truncated: {len(ends)} of {stream.frames} frames; copy it again")
        end, promised = float(max(ends) * (stream.time_base or 0)), _seconds(stream.metadata.get("DURATION", "0"))
        if promised - end > max(1.0, promised / 10):
            raise Unreadable(f"truncated: {end:.1f} of {promised:.1f} seconds; copy it again")
        return len(ends), float(stream.average_rate or 0)


def _seconds(duration: str) -> float:
    """Matroska's "hours:minutes:seconds" in seconds."""
    return sum(float(part) * 60**i for i, part in enumerate(reversed(duration.split(":"))))


def _pick(path: str, wanted: set[int]) -> tuple[list[np.ndarray], int]:
    """The wanted frames, upright, and how many there are in all."""
    import av

    frames, count = [], 0
    with av.open(path) as container:
        for count, frame in enumerate(container.decode(video=0), 1):
            if count - 1 in wanted:
                frames.append(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
    return frames, count


def read_image(sample: str, path: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image file, upright as its EXIF says, transparency on white as the paper's loader."""
    check_file(sample, path)
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                upright = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
            return np.asarray(upright.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadVideo(sample, path, f"no readable image ({error}); copy it again") from error


def check_file(sample: str, path: str) -> None:
    """Refuse what is no file, or an empty one, before any decoder sees it."""
    file = Path(path)
    if not file.exists():
        raise BadVideo(sample, path, "no such file")
    if not file.is_file():
        raise BadVideo(sample, path, "is a directory, not a file")
    if not file.stat().st_size:
        raise BadVideo(sample, path, "is empty (0 bytes); copy it again")


@dataclass
class Worker:
    """A decoding process and our end of its pipe."""

    process: subprocess.Popen[bytes]
    pipe: Connection

    @classmethod
    def start(cls) -> Worker:
        ours, theirs = Pipe()
        command = f"from rlvid.video.decode import work; work({theirs.fileno()})"
        process = subprocess.Popen([sys.executable, "-c", command], pass_fds=[theirs.fileno()])
        theirs.close()
        return cls(process, ours)

    def stop(self) -> int:
        self.pipe.close()
        self.process.kill()
        return self.process.wait()


def work(fd: int) -> None:
    """A worker's life: read what is asked for, within the time that is given for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; its closing the pipe is our end
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # FFmpeg's mutterings; what matters is in the answers
    pipe = Connection(fd)
    while True:
        try:
            reader, path, video = pipe.recv()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, video.decode_timeout)
        try:
            answer = reader(path, video)
        except Exception as error:  # decoders raise anything; it becomes this clip's error in the parent
            answer = " ".join(str(error).split()) or type(error).__name__
        signal.setitimer(signal.ITIMER_REAL, 0)
        pipe.send(answer)


class Decoder:
    """Reads clips in `video.decode_workers` processes; each clip by the first of `readers` that can.

    `fallbacks` counts the clips that the first reader could not read and another could.
    """

    def __init__(self, video: Video, readers: tuple[Reader, ...] = (by_decord, by_pyav)) -> None:
        self.video, self.readers = video, readers
        self.fallbacks = 0
        self.started = 0  # processes, in all
        self.idle: list[Worker] = []

    def __call__(self, clips: Iterable[tuple[str, str]]) -> Iterator[tuple[str, np.ndarray | BadVideo]]:
        """(sample id, path) pairs -> (path, frames or what is wrong), in the order of completion."""
        waiting = deque((sample, path, 0) for sample, path in clips)
        busy: dict[Any, tuple[Worker, str, str, int]] = {}  # by pipe
        try:
            while waiting or busy:
                while waiting and len(busy) < self.video.decode_workers:
                    sample, path, attempt = waiting.popleft()
                    worker = self._worker()
                    worker.pipe.send((self.readers[attempt], path, self.video))
                    busy[worker.pipe] = worker, sample, path, attempt
                for pipe in wait(list(busy)):
                    worker, sample, path, attempt = busy.pop(pipe)
                    answer = self._answer(worker)
                    if isinstance(answer, np.ndarray):
                        self.fallbacks += attempt > 0
                        yield path, answer
                    elif attempt + 1 < len(self.readers):
                        waiting.appendleft((sample, path, attempt + 1))
                    else:
                        yield path, BadVideo(sample, path, answer)
        finally:
            for worker, *_ in busy.values():
                worker.stop()

    def _worker(self) -> Worker:
        while self.idle:
            worker = self.idle.pop()
            if worker.process.poll() is None:
                return worker
        self.started += 1
        return Worker.start()

    def _answer(self, worker: Worker) -> np.ndarray | str:
        """What a worker has to say: frames, or what is wrong; a worker that died is not used again."""
        try:
            answer = worker.pipe.recv()
        except (EOFError, ConnectionError):
            worker.pipe.close()
            code = worker.process.wait()
            if code == -signal.SIGALRM:
                return f"took longer than video.decode_timeout = {self.video.decode_timeout:g} s to decode"
            return f"the decoder died of it (exit status {code})"
        self.idle.append(worker)
        return answer

    def close(self) -> None:
        """End the worker processes."""
        while self.idle:
            self.idle.pop().stop()
