"""Odd but real media, made at test time with PyAV: frame i of a clip is solid grey of level i * step."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


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
    rotate: int = 0,
    **options: str,
) -> Path:
    """Encode (T, H, W, 3) uint8; frame i is shown at tick i, or at `ticks[i]`, of 1/fps s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        stream.time_base = stream.codec_context.time_base = Fraction(1, fps)
        for i, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts, picture.time_base = ticks[i] if ticks else i, Fraction(1, fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
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
