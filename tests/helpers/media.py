"""Write unusual but valid media with PyAV when a test runs, and readers that hang or crash.

Frame i of a test video is solid grey, of level i * step.
"""

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
from rlvid.video.read import Frames, read_with_pyav


def grey_frames(count: int, height: int = 64, width: int = 64, step: int = 8) -> np.ndarray:
    """Return (count, height, width, 3) uint8 whose frame i is solid grey of level i * step."""
    levels = (np.arange(count) * step).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def write_video(
    path: Path,
    frames: np.ndarray,
    fps: int = 8,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    ticks: Sequence[int] | None = None,
    container: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Encode (T, H, W, 3) uint8. Frame i is shown at tick i, or at `ticks[i]`; a tick is 1/fps s."""
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        stream.time_base = stream.codec_context.time_base = Fraction(1, fps)
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = ticks[i] if ticks else i, Fraction(1, fps)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def write_audio_only(path: Path) -> Path:
    """Write an mp4 that holds a quarter of a second of silence and no video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for i in range(4):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, i * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_truncated(path: Path, source: Path, share: float) -> Path:
    """Write the first `share` of another file's bytes."""
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def write_cut(path: Path, source: Path, first: int, fps: int) -> Path:
    """Write an mp4 that starts at frame `first` of another one, without re-encoding.

    The frames from the key frame before it on stay in the file, hidden by an edit list.
    """
    with (
        av.open(str(source)) as whole,
        av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as container,
    ):
        stream = whole.streams.video[0]
        copy = container.add_stream_from_template(stream)
        start = int(first / fps / stream.time_base)
        packets = [packet for packet in whole.demux(stream) if packet.size]
        key = max(i for i, packet in enumerate(packets) if packet.is_keyframe and packet.pts <= start)
        for packet in packets[key:]:
            packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, copy
            container.mux(packet)
    return path


def write_rotated(path: Path, source: Path, height: int) -> Path:
    """Copy an mp4 and add a display matrix that rotates it clockwise by 90 degrees, as phones do."""
    data = bytearray(source.read_bytes())
    matrix = data.find(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, height << 16, 0, 1 << 30)
    path.write_bytes(data)
    return path


def hang_on_slow(path: str, video: VideoConfig) -> Frames:
    """A reader that never returns from files named "slow" and holds the GIL meanwhile, as decord can."""
    if Path(path).stem == "slow":
        ctypes.PyDLL(None).pause()
    return read_with_pyav(path, video)


def crash(path: str, video: VideoConfig) -> np.ndarray:
    """A reader that dies in native code."""
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError
