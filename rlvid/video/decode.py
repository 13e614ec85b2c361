"""Decode videos in worker processes that can be killed: with decord, and with PyAV where decord fails.

decord can loop for ever in native code while it holds the GIL. Therefore every clip is read in another process, under a
timer of the kernel. The default action of SIGALRM ends that process whatever its threads do, even if the parent is
dead. The parent then sees the pipe close, reports the clip as bad and starts a new worker for the next one.
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

from rlvid.config import VideoConfig
from rlvid.video.read import BadVideo, Frames, read_with_decord, read_with_pyav

FrameReader = Callable[[str, VideoConfig], Frames]
WORKER_MEMORY = 4 << 30  # bytes a worker may allocate; sixteen frames of 8K need half of it


@dataclass
class Worker:
    """A decoding process and the parent's end of its pipe."""

    process: subprocess.Popen[bytes]
    pipe: Connection

    @classmethod
    def start(cls) -> Worker:
        """Start a process that runs `run_worker`."""
        parent_end, worker_end = Pipe()
        code = f"from rlvid.video.decode import run_worker; run_worker({worker_end.fileno()}, {WORKER_MEMORY})"
        process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[worker_end.fileno()])
        worker_end.close()
        return cls(process, parent_end)

    def stop(self) -> None:
        """Kill the process and wait for its end."""
        self.pipe.close()
        self.process.kill()
        self.process.wait()


def run_worker(fd: int, memory: int) -> None:
    """Read clips until the parent closes the pipe; this is the main function of a worker process.

    It receives (reader, path, video section) and sends back the frames, or the error message as a string.

    Args:
        fd: file descriptor of the worker's end of the pipe.
        memory: bytes that the process may allocate; beyond that its allocations fail.
    """
    _, hard_limit = resource.getrlimit(resource.RLIMIT_DATA)
    soft_limit = memory if hard_limit == resource.RLIM_INFINITY else min(memory, hard_limit)
    resource.setrlimit(resource.RLIMIT_DATA, (soft_limit, hard_limit))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C, and then closes the pipe
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # drop FFmpeg's log: the answers hold what matters
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


@dataclass
class Job:
    """A clip, and the index of the reader that reads it or is next to try."""

    sample: str
    path: str
    reader: int = 0


class Decoder:
    """Reads clips in up to `video.decode_workers` processes.

    Args:
        video: how frames are chosen, and the limits of decoding.
        readers: tried in this order until one can read the clip.

    Attributes:
        fallbacks: number of clips that the first reader could not read and another one could.
        workers_started: number of processes started so far.
    """

    def __init__(
        self, video: VideoConfig, readers: tuple[FrameReader, ...] = (read_with_decord, read_with_pyav)
    ) -> None:
        self.video, self.readers = video, readers
        self.fallbacks = 0
        self.workers_started = 0
        self.idle: list[Worker] = []

    def decode(self, clips: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Frames | BadVideo]]:
        """Read (sample id, path) pairs; yield (path, frames or error) as soon as each clip is done."""
        waiting = deque(Job(sample, path) for sample, path in clips)
        busy: dict[Any, tuple[Worker, Job]] = {}  # by the worker's pipe
        try:
            while waiting or busy:
                while waiting and len(busy) < self.video.decode_workers:
                    job, worker = waiting.popleft(), self._free_worker()
                    worker.pipe.send((self.readers[job.reader], job.path, self.video))
                    busy[worker.pipe] = worker, job
                for pipe in wait(list(busy)):
                    worker, job = busy.pop(pipe)
                    answer = self._receive(worker)
                    if isinstance(answer, Frames):
                        self.fallbacks += job.reader > 0
                        yield job.path, answer
                    elif job.reader + 1 < len(self.readers):
                        waiting.appendleft(Job(job.sample, job.path, job.reader + 1))
                    else:
                        yield job.path, BadVideo(job.sample, job.path, answer)
        finally:  # also when the caller stops early
            for worker, _ in busy.values():
                worker.stop()

    def close(self) -> None:
        """Stop the worker processes that are kept for the next clips."""
        while self.idle:
            self.idle.pop().stop()

    def _free_worker(self) -> Worker:
        """An idle worker that is still alive, or a new one."""
        while self.idle:
            worker = self.idle.pop()
            if worker.process.poll() is None:
                return worker
        self.workers_started += 1
        return Worker.start()

    def _receive(self, worker: Worker) -> Frames | str:
        """A worker's frames or error message. A worker that died is not used again."""
        try:
            answer = worker.pipe.recv()
        except (EOFError, ConnectionError):
            worker.pipe.close()
            code = worker.process.wait()
            if code == -signal.SIGALRM:
                return f"took longer than video.decode_timeout = {self.video.decode_timeout:g} s to decode"
            return f"the decoding process died (exit status {code})"
        self.idle.append(worker)
        return answer
