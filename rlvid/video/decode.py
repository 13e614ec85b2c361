"""Videos are decoded in worker processes: by decord, and by PyAV where decord cannot.

decord can loop for ever in native code while it holds the GIL, so every clip is read in another process under the
kernel's alarm clock. SIGALRM's default action ends that process whatever its threads are doing, also when the parent
has died; the parent sees the pipe close, says so, and starts a new worker for the next clip.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from rlvid.config import VideoConfig
from rlvid.video.read import BadVideo, by_decord, by_pyav

FrameReader = Callable[[str, VideoConfig], np.ndarray]
MEMORY = 4 << 30  # bytes that a worker may take: sixteen frames of 8K need half of it


@dataclass
class Worker:
    """A decoding process and our end of its pipe."""

    process: subprocess.Popen[bytes]
    pipe: Connection

    @classmethod
    def start(cls) -> Worker:
        ours, theirs = Pipe()
        command = f"from rlvid.video.decode import work; work({theirs.fileno()}, {MEMORY})"
        process = subprocess.Popen([sys.executable, "-c", command], pass_fds=[theirs.fileno()])
        theirs.close()
        return cls(process, ours)

    def stop(self) -> int:
        self.pipe.close()
        self.process.kill()
        return self.process.wait()


def work(fd: int, memory: int) -> None:
    """A worker's life: read what is asked for, within the time and the memory that are given for it."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (memory if most == resource.RLIM_INFINITY else min(memory, most), most))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; its closing the pipe is our end
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
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

    def __init__(self, video: VideoConfig, readers: tuple[FrameReader, ...] = (by_decord, by_pyav)) -> None:
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
