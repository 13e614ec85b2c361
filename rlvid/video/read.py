"""From a file to pixels: which frames are shown, decord and PyAV for videos, Pillow for images.

These run to the end or raise, however long it takes; `rlvid.video.decode` runs them in processes that can be killed.
"""

from __future__ import annotations

import re
from math import ceil, inf
from pathlib import Path
from stat import S_ISDIR, S_ISREG

import numpy as np
from PIL import Image, ImageOps

from rlvid.config import VideoConfig
from rlvid.errors import UserError

ONLY = {  # what FFmpeg may open: films, and no list of other files or addresses
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif",
    "protocol_whitelist": "file",
}


SPAN = re.compile(r"(.+)#t=(\d+\.?\d*),(\d+\.?\d*)")  # a media fragment (W3C, Media Fragments URI 1.0)


class BadVideo(UserError):
    """A video or an image that cannot be read. Nothing is ever shown in its place."""

    def __init__(self, sample: str, path: str, reason: str) -> None:
        super().__init__(f"sample {sample}: {path}: {reason}")
        self.sample, self.path, self.reason = sample, path, reason


class Unreadable(Exception):
    """What is wrong with a file, as a reader found it."""


def located(path: str) -> tuple[str, float, float]:
    """A clip's file and the seconds from and to which it is shown: "film.mp4#t=3.5,10"; without them, all of it."""
    found = SPAN.fullmatch(path)
    return (found[1], float(found[2]), float(found[3])) if found else (path, 0.0, inf)


def spanned(total: int, native_fps: float, video: VideoConfig, start: float, end: float) -> list[int]:
    """`frame_indices` within some seconds of a film of `total` frames, the frames nearest to start and end included."""
    if (start, end) == (0.0, inf):
        return frame_indices(total, native_fps, video)
    if not native_fps > 0:
        raise Unreadable("has no frame rate by which to find its seconds")
    first, last = round(start * native_fps), int(min(round(min(end, 1e9) * native_fps), total - 1))
    if last < first:
        raise Unreadable(f"lasts {total / native_fps:.1f} s: there is nothing from {start:g} to {end:g} s")
    return [first + i for i in frame_indices(last - first + 1, native_fps, video)]


def frame_indices(total: int, native_fps: float, video: VideoConfig) -> list[int]:
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


def by_decord(path: str, video: VideoConfig) -> np.ndarray:
    """The chosen frames of an mp4 or mov, (T, H, W, 3) uint8, turned as the file's display matrix says.

    What decord reads wrongly, without a word, is refused: AVI and MPEG-TS (other frames than those asked for),
    truncated Matroska (as if it were whole), a clip cut by an edit list (frames out of order).
    """
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    path, *span = located(path)
    with Path(path).open("rb") as file:
        if file.read(8)[4:] != b"ftyp":
            raise Unreadable("no mp4")
    reader = decord.VideoReader(path, num_threads=1, fault_tol=1e-9)  # a frame it had to make up is an error
    if reader.get_frame_timestamp([0])[0, 0] < 0:
        raise Unreadable("begins before its edit list")
    return reader.get_batch(spanned(len(reader), reader.get_avg_fps(), video, *span)).asnumpy()


def by_pyav(path: str, video: VideoConfig) -> np.ndarray:
    """The same frames of any container and codec that FFmpeg reads, decoded from the start."""
    import av

    path, *span = located(path)
    try:
        total, rate = _survey(path)
        while True:
            frames, decoded = _pick(path, set(spanned(total, rate, video, *span)))
            if decoded == total:
                if len({frame.shape for frame in frames}) > 1:
                    raise Unreadable("changes its size midway; leave this sample out")
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
        container = av.open(path, options=ONLY)
    except (av.error.InvalidDataError, av.error.ArgumentError) as error:
        with Path(path).open("rb") as file:
            mp4 = file.read(8)[4:] == b"ftyp"
        lost = "truncated: its index (moov) is missing; copy it again"
        raise Unreadable(lost if mp4 else "no video file: its content is of no format of films") from error
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
    with av.open(path, options=ONLY) as container:
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
    """Refuse what is no file, one that may not be read, or an empty one, before any decoder sees it."""
    file, *_ = located(path)
    try:
        about = Path(file).stat()
        if not S_ISREG(about.st_mode):  # a pipe is not even opened: that would wait for its other end
            raise BadVideo(sample, path, "is a directory, not a file" if S_ISDIR(about.st_mode) else "is no plain file")
        with Path(file).open("rb"):
            pass
    except FileNotFoundError as error:
        raise BadVideo(sample, path, "no such file") from error
    except OSError as error:
        raise BadVideo(sample, path, f"cannot be opened: {error.strerror}") from error
    if not about.st_size:
        raise BadVideo(sample, path, "is empty (0 bytes); copy it again")
