"""Odd but real media, made at test time with PyAV: frame i of a clip is solid grey of level i * step."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from rlvid.config import VideoConfig
from rlvid.video.read import by_pyav


def greys(count: int, height: int = 64, width: int = 64, step: int = 8) -> np.ndarray:
    """(count, height, width, 3) uint8 whose frame i is solid grey of level i * step."""
    levels = (np.arange(count) * step).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def write(
    path: Path,
    frames: np.ndarray,
    fps: int = 8,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    ticks: Sequence[int] | None = None,
    container: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Encode (T, H, W, 3) uint8; frame i is shown at tick i, or at `ticks[i]`, of 1/fps s."""
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        stream.time_base = stream.codec_context.time_base = Fraction(1, fps)
        for i, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts, picture.time_base = ticks[i] if ticks else i, Fraction(1, fps)
            file.mux(stream.encode(picture))
        file.mux(stream.encode())
    return path


def audio_only(path: Path) -> Path:
    """An mp4 that holds a quarter of a second of silence and no video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for i in range(4):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sound.sample_rate, sound.pts = 16000, i * 1024
            container.mux(stream.encode(sound))
        container.mux(stream.encode())
    return path


def truncated(path: Path, whole: Path, keep: float) -> Path:
    """The first `keep` of another file's bytes."""
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def cut(path: Path, whole: Path, first: int, fps: int) -> Path:
    """An mp4 that starts at frame `first`, not encoded anew: earlier frames stay in it, hidden by an edit list."""
    with av.open(str(whole)) as source, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as container:
        stream = source.streams.video[0]
        copy = container.add_stream_from_template(stream)
        start = int(first / fps / stream.time_base)
        packets = [p for p in source.demux(stream) if p.size]
        key = max(i for i, p in enumerate(packets) if p.is_keyframe and p.pts <= start)
        for packet in packets[key:]:
            packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, copy
            container.mux(packet)
    return path


def turned(path: Path, whole: Path, height: int) -> Path:
    """The same mp4 with a display matrix that turns it clockwise by 90 degrees, as telephones write."""
    data = bytearray(whole.read_bytes())
    matrix = data.find(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, height << 16, 0, 1 << 30)
    path.write_bytes(data)
    return path


def hang_on_slow(path: str, video: VideoConfig) -> np.ndarray:
    """A reader that never comes back from files named slow and holds the GIL meanwhile, as decord can."""
    if Path(path).stem == "slow":
        ctypes.PyDLL(None).pause()
    return by_pyav(path, video)


def crash(path: str, video: VideoConfig) -> np.ndarray:
    """A reader that dies in native code."""
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError
