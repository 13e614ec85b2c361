"""Read the shown frames of a video file (decord, PyAV) and the pixels of an image file (Pillow).

These functions return or raise, but they may take very long. `rlvid.video.decode` runs the video readers in processes
that it can kill.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import ceil, inf
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from rlvid.config import VideoConfig
from rlvid.errors import UserError

FFMPEG_OPTIONS = {  # FFmpeg may open video files only: no playlist that names other files, no address
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif",
    "protocol_whitelist": "file",
}
TIME_SPAN = re.compile(r"(.+)#t=(\d+\.?\d*),(\d+\.?\d*)")  # a media fragment (W3C, Media Fragments URI 1.0)
LONGEST_VIDEO = 1e9  # seconds; it replaces an infinite end, which cannot be rounded to a frame number


class BadVideo(UserError):
    """A video or an image that cannot be read. No other pixels are ever used in its place.

    Attributes:
        sample: the id of the sample that names the file.
        path: the file.
        reason: what is wrong with it.
    """

    def __init__(self, sample: str, path: str, reason: str) -> None:
        super().__init__(f"sample {sample}: {path}: {reason}")
        self.sample, self.path, self.reason = sample, path, reason


class Clock(NamedTuple):
    """When the frames of a clip are shown."""

    times: np.ndarray  # (T,) float64: when each frame begins, in seconds from the clip's start
    sampled_fps: float  # shown frames per second: T / the clip's seconds


class Frames(NamedTuple):
    """The shown frames of a clip."""

    pixels: np.ndarray  # (T, H, W, 3) uint8
    clock: Clock | None  # None if the frame rate is unknown


class ReaderError(Exception):
    """Raised by a reader; its message says what is wrong with the file."""


def split_time_span(path: str) -> tuple[str, float, float]:
    """Split a clip's path into its file, and the seconds at which the clip starts and ends.

    >>> split_time_span("film.mp4#t=3.5,10")
    ('film.mp4', 3.5, 10.0)
    >>> split_time_span("film.mp4")  # the whole file
    ('film.mp4', 0.0, inf)
    """
    match = TIME_SPAN.fullmatch(path)
    return (match[1], float(match[2]), float(match[3])) if match else (path, 0.0, inf)


def frame_indices(total: int, native_fps: float, video: VideoConfig) -> list[int]:
    """Choose which frames of a clip are shown: an even number, evenly spaced, the first and the last included.

    24 frames at 8 fps are 3 s; at `video.fps` = 2 six of them are shown:

        frame  0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23
               ^         ^       ^              ^           ^              ^

    The choice is that of SEED-Bench-R1's `qwen_vl_utils/vision_process_egoplan.py` (arXiv:2503.24376). Two cases are
    ours: a clip of one frame gives this frame, and an unknown frame rate takes as many frames as are allowed.

    Args:
        total: number of frames in the clip.
        native_fps: the clip's own frames per second; 0 if unknown.
        video: gives `fps`, `min_frames` and `max_frames`.
    """
    if total == 1:
        return [0]
    fewest = ceil(video.min_frames / 2) * 2
    most = video.max_frames // 2 * 2
    wanted = total / native_fps * video.fps if native_fps > 0 else most
    count = int(min(max(wanted, fewest), most, total)) // 2 * 2
    return [round(i * (total - 1) / (count - 1)) for i in range(count)]


def frame_indices_in_span(total: int, native_fps: float, video: VideoConfig, start: float, end: float) -> list[int]:
    """Choose frames as `frame_indices` does, but between two times of a file of `total` frames.

        file   0 ......... first .................... last ......... total - 1
                             |  frame_indices in here  |

    `first` and `last` are the frames nearest to `start` and `end`, in seconds; an `end` beyond the file is its last
    frame. Raises ReaderError if the frame rate is unknown, or if the file ends before `start`.
    """
    first, count = _span_in_frames(total, native_fps, start, end)
    return [first + i for i in frame_indices(count, native_fps, video)]


def frame_clock(indices: Sequence[int], total: int, native_fps: float, start: float, end: float) -> Clock | None:
    """Return when frames of a clip are shown; None if the frame rate is unknown.

    The frame rate is taken as constant, and both numbers are computed as the published processors do. A clip that is
    cut by a time span counts from its cut.

    Args:
        indices: T frames of the file.
        total: number of frames in the file.
        native_fps: the file's own frames per second; 0 if unknown.
        start, end: the clip's time span in seconds.
    """
    if not native_fps > 0:
        return None
    first, count = _span_in_frames(total, native_fps, start, end)
    times = np.array([(index - first) / native_fps for index in indices])
    return Clock(times, len(indices) / count * native_fps)


def _span_in_frames(total: int, native_fps: float, start: float, end: float) -> tuple[int, int]:
    """The first frame of a time span, and the number of its frames. Raises ReaderError."""
    if (start, end) == (0.0, inf):
        return 0, total
    if not native_fps > 0:
        raise ReaderError("has no frame rate, so the frames of its time span are unknown")
    first = round(start * native_fps)
    last = int(min(round(min(end, LONGEST_VIDEO) * native_fps), total - 1))
    if last < first:
        raise ReaderError(f"lasts {total / native_fps:.1f} s: there is nothing from {start:g} to {end:g} s")
    return first, last - first + 1


def read_with_decord(path: str, video: VideoConfig) -> Frames:
    """Return the chosen frames of an mp4 or mov file, rotated as its display matrix says.

    Raises ReaderError for files that decord reads wrongly without an error: AVI and MPEG-TS (it returns other frames
    than the chosen ones), truncated Matroska (read as if complete), and a clip cut by an edit list (frames out of
    order). decord raises errors of its own, too.
    """
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    file_path, start, end = split_time_span(path)
    if not _is_mp4(file_path):
        raise ReaderError("not an mp4")
    reader = decord.VideoReader(file_path, num_threads=1, fault_tol=1e-9)  # an invented frame is an error
    if reader.get_frame_timestamp([0])[0, 0] < 0:
        raise ReaderError("begins before its edit list")
    total, native_fps = len(reader), reader.get_avg_fps()
    indices = frame_indices_in_span(total, native_fps, video, start, end)
    return Frames(reader.get_batch(indices).asnumpy(), frame_clock(indices, total, native_fps, start, end))


def read_with_pyav(path: str, video: VideoConfig) -> Frames:
    """Return the frames that `read_with_decord` would, from any container and codec that FFmpeg reads.

    It decodes the file from its start, which is slower. Raises ReaderError.
    """
    import av

    file_path, start, end = split_time_span(path)
    try:
        total, native_fps = _probe(file_path)
        while True:
            indices = frame_indices_in_span(total, native_fps, video, start, end)
            frames, decoded = _decode_frames(file_path, set(indices))
            if decoded == total:
                break
            if not decoded:
                raise ReaderError("holds no frame that decodes")
            total = decoded  # some packets do not decode: choose again, among the frames that do
    except av.error.FFmpegError as error:
        raise ReaderError(f"does not decode to its end ({error.strerror}); copy it again") from error
    if len({frame.shape for frame in frames}) > 1:
        raise ReaderError("the frame size changes midway; leave this sample out")
    return Frames(np.stack(frames), frame_clock(indices, total, native_fps, start, end))


def _probe(path: str) -> tuple[int, float]:
    """Count a file's video packets, and return the count and the frame rate (0 if unknown), without decoding.

    Raises ReaderError if there is no video, or if the file ends earlier than its header says.
    """
    import av

    try:
        container = av.open(path, options=FFMPEG_OPTIONS)
    except (av.error.InvalidDataError, av.error.ArgumentError) as error:
        if _is_mp4(path):
            raise ReaderError("truncated: its index (moov) is missing; copy it again") from error
        raise ReaderError("not a video file: its content has no known video format") from error
    with container:
        if not container.streams.video:
            raise ReaderError("holds no video stream")
        stream = container.streams.video[0]
        packet_ends = [(p.pts or 0) + (p.duration or 0) for p in container.demux(stream) if p.size]
        if not packet_ends:
            raise ReaderError("holds a video stream without frames")
        if len(packet_ends) < stream.frames:
            raise ReaderError(f"truncated: {len(packet_ends)} of {stream.frames} frames; copy it again")
        duration = float(max(packet_ends) * (stream.time_base or 0))
        promised = _parse_duration(stream.metadata.get("DURATION", "0"))
        if promised - duration > max(1.0, promised / 10):
            raise ReaderError(f"truncated: {duration:.1f} of {promised:.1f} seconds; copy it again")
        return len(packet_ends), float(stream.average_rate or 0)


def frame_rate_drift(path: str) -> float:
    """Return by how many seconds a file's frames are shown earlier or later than a constant frame rate has them.

    0 if the file does not say when its frames are shown. Raises an error of PyAV for a file that it cannot open.
    """
    import av

    with av.open(path, options=FFMPEG_OPTIONS) as container:
        stream = container.streams.video[0]
        ticks = [packet.pts for packet in container.demux(stream) if packet.size]
        fps, unit = float(stream.average_rate or 0), float(stream.time_base or 0)
    if not ticks or None in ticks or not fps:
        return 0.0
    times = np.sort(np.array(ticks, float)) * unit
    return float(np.abs(times - times[0] - np.arange(len(times)) / fps).max())


def _parse_duration(text: str) -> float:
    """Convert Matroska's "hours:minutes:seconds" to seconds."""
    return sum(float(part) * 60**i for i, part in enumerate(reversed(text.split(":"))))


def _decode_frames(path: str, wanted: set[int]) -> tuple[list[np.ndarray], int]:
    """Decode a whole file; return its wanted frames, upright, and the number of all frames."""
    import av

    frames, count = [], 0
    with av.open(path, options=FFMPEG_OPTIONS) as container:
        for count, frame in enumerate(container.decode(video=0), 1):
            if count - 1 in wanted:
                frames.append(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
    return frames, count


def _is_mp4(path: str) -> bool:
    """Whether a file starts like an mp4 or mov, with an "ftyp" box."""
    with Path(path).open("rb") as file:
        return file.read(8)[4:] == b"ftyp"


def read_image(sample: str, path: str) -> np.ndarray:
    """Return an image file as (H, W, 3) uint8 RGB. Raises BadVideo.

    It is rotated as its EXIF data says. Transparent pixels become white, as in SEED-Bench-R1's loader.
    """
    check_file(sample, path)
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                upright = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
            return np.asarray(upright.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadVideo(sample, path, f"not a readable image ({error}); copy it again") from error


def check_file(sample: str, path: str) -> None:
    """Raise BadVideo if a file is missing, empty, unreadable or not a regular file; no decoder sees it then."""
    file_path = Path(split_time_span(path)[0])
    try:
        status = file_path.stat()
        if S_ISDIR(status.st_mode):
            raise BadVideo(sample, path, "is a directory, not a file")
        if not S_ISREG(status.st_mode):  # a pipe is not even opened: that would wait for a writer
            raise BadVideo(sample, path, "is not a regular file")
        with file_path.open("rb"):
            pass
    except FileNotFoundError as error:
        raise BadVideo(sample, path, "no such file") from error
    except OSError as error:
        raise BadVideo(sample, path, f"cannot be opened: {error.strerror}") from error
    if not status.st_size:
        raise BadVideo(sample, path, "is empty (0 bytes); copy it again")
