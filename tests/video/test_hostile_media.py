"""Files that are not what their names promise: each is refused quickly, in one line, and no address in it is opened."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from rlvid.config import VideoConfig
from rlvid.types import Prompt
from rlvid.video import decode
from rlvid.video.cache import FrameCache
from rlvid.video.read import BadVideo
from tests.helpers import media

ROOT = Path(__file__).parents[2]


# Each function writes a bad file to `path`. `good` is a valid mp4, and `server` the URL of a server that counts calls.


def network_playlist(path, good, server):
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{server}/clip.ts\n#EXT-X-ENDLIST\n")


def local_playlist(path, good, server):
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nfile://{good}\n#EXT-X-ENDLIST\n")


def concatenation(path, good, server):
    path.write_text(f"ffconcat version 1.0\nfile {good.name}\n")


def stream_description(path, good, server):
    path.write_text(
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video {server.rsplit(':', 1)[1]} RTP/AVP 96\n"
    )


def hole_in_the_middle(path, good, server):
    data = bytearray(good.read_bytes())
    offset = data.find(b"mdat") + 200
    data[offset : offset + 3000] = bytes(3000)
    path.write_bytes(data)


def two_sizes(path, good, server):
    sides = {side: path.with_name(f"{side}.ts") for side in (64, 32)}
    for side, part in sides.items():
        media.write_video(part, media.grey_frames(8, side, side), codec="mpeg2video", fps=25)
    path.write_bytes(b"".join(part.read_bytes() for part in sides.values()))


def terabyte_of_zeros(path, good, server):
    path.touch()
    os.truncate(path, 1 << 40)  # a sparse file, which takes no space on the disk


def unix_socket(path, good, server):
    socket.socket(socket.AF_UNIX).bind(str(path))


def lfs_pointer(path, good, server):
    path.write_text("version https://git-lfs.github.com/spec/v1\n")


def content(data):
    """A function that writes these bytes."""
    return lambda path, good, server: path.write_bytes(data)


def link_to(find_target):
    """A function that writes a symbolic link; `find_target` gets the link's own path and the good file's."""
    return lambda path, good, server: path.symlink_to(find_target(path, good))


NO_VIDEO = "not a video file: its content has no known video format"
NO_INDEX = "truncated: its index (moov) is missing"
BAD_FILES = {  # kind -> (function that writes it, start of the error)
    "nothing": (lambda path, good, server: None, "no such file"),
    "empty": (content(b""), "is empty"),
    "a folder": (lambda path, good, server: path.mkdir(), "is a directory"),
    "a link to nothing": (link_to(lambda path, good: path.with_name("nothing.mp4")), "no such file"),
    "a link to itself": (link_to(lambda path, good: path), "cannot be opened: Too many levels"),
    "a file as a folder": (link_to(lambda path, good: good / "clip.mp4"), "cannot be opened: Not a directory"),
    "a pipe": (lambda path, good, server: os.mkfifo(path), "is not a regular file"),
    "a device without end": (link_to(lambda path, good: "/dev/zero"), "is not a regular file"),
    "a socket": (unix_socket, "is not a regular file"),
    "zeros": (content(bytes(100_000)), NO_VIDEO),
    "a terabyte of zeros": (terabyte_of_zeros, NO_VIDEO),
    "noise": (content(np.random.default_rng(0).bytes(100_000)), NO_VIDEO),
    "text": (content(b"This is no video.\n" * 50), NO_VIDEO),
    "a web page": (content(b"<html><body>404 Not Found</body></html>" * 50), NO_VIDEO),
    "a git LFS pointer": (lfs_pointer, NO_VIDEO),
    "an archive": (content(b"PK\x03\x04" + bytes(1000)), NO_VIDEO),
    "only a header": (lambda path, good, server: path.write_bytes(good.read_bytes()[:40]), NO_INDEX),
    "half of a file": (lambda path, good, server: media.write_truncated(path, good, 0.5), NO_INDEX),
    "a hole in the middle": (hole_in_the_middle, "does not decode to its end"),
    "two sizes": (two_sizes, "the frame size changes midway"),
    "sound": (lambda path, good, server: media.write_audio_only(path), "holds no video stream"),
    "an image": (lambda path, good, server: Image.new("RGB", (64, 64)).save(path, "PNG"), NO_VIDEO),
    "a playlist with an address": (network_playlist, NO_VIDEO),
    "a playlist with a local file": (local_playlist, NO_VIDEO),
    "a concatenation list": (concatenation, NO_VIDEO),
    "a description of a stream": (stream_description, NO_VIDEO),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A valid mp4 of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
    return media.write_video(tmp_path_factory.mktemp("good") / "good.mp4", noise)


@pytest.fixture(scope="module")
def frames():
    frames = FrameCache(VideoConfig(decode_timeout=10))
    yield frames
    frames.close()


@pytest.fixture
def server():
    """A server on this machine: its URL, and the list of connections that it received."""
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            while True:
                try:
                    connections.append(listener.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", connections


def test_there_are_at_least_twenty_kinds_of_bad_file():
    assert len(BAD_FILES) >= 20


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_video_is_refused_in_one_line_and_opens_no_address(frames, good, server, tmp_path, kind):
    path = tmp_path / "clip.mp4"
    write, reason = BAD_FILES[kind]
    url, connections = server
    write(path, good, url)
    start = time.monotonic()
    with pytest.raises(BadVideo) as caught:
        frames(Prompt("s1", "?", video=str(path)))
    assert time.monotonic() - start < 9, "refused by the decoder, not by its timeout of 10 s"
    assert str(caught.value).startswith(f"sample s1: {path}: {reason}") and "\n" not in str(caught.value)
    time.sleep(0.1)
    assert not connections


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a device without end", "a socket", "empty", "noise", "half"])
def test_a_bad_image_is_refused_in_one_line(frames, tmp_path, server, kind):
    path = tmp_path / "image.png"
    if kind == "half":
        Image.effect_noise((64, 64), 90).save(path)
        path.write_bytes(path.read_bytes()[:1000])
    else:
        BAD_FILES[kind][0](path, None, server[0])
    with pytest.raises(BadVideo, match=r"^sample s1: .*image\.png: "):
        frames(Prompt("s1", "?", image=str(path)))


@pytest.mark.parametrize("closed", ["file", "folder"])
def test_a_file_without_read_permission_is_refused_with_that_reason(good, tmp_path, closed):
    """In another process, which gives up root's rights."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = Path(shutil.copy(good, folder / "clip.mp4"))
    (path if closed == "file" else folder).chmod(0)
    code = "import os, sys; from rlvid.video.read import check_file; os.getuid() or os.setuid(65534); "
    code += "os.chdir('/'); check_file('s1', sys.argv[1])"
    for parent in (tmp_path, *list(tmp_path.parents)[:2]):
        parent.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, cwd=ROOT)
    assert f"BadVideo: sample s1: {path}: cannot be opened: Permission denied" in done.stderr.splitlines()[-1]


def test_frames_too_large_for_the_worker_memory_are_an_error_of_their_clip(tmp_path, monkeypatch):
    """Sixteen times the same 4096 x 4096 frame, in a few kilobytes."""
    monkeypatch.setattr(decode, "WORKER_MEMORY", 500 << 20)
    bomb, good = tmp_path / "bomb.mp4", media.write_video(tmp_path / "good.mp4", media.grey_frames(8))
    with av.open(str(bomb), "w") as file:
        stream = file.add_stream("libx264", rate=8, options={"preset": "ultrafast"})
        stream.height = stream.width = 4096
        frame = av.VideoFrame(4096, 4096, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        [packet] = [*stream.encode(frame), *stream.encode()]
        for i in range(16):
            packet.pts = packet.dts = i * (packet.duration or 1)
            file.mux(packet)
    assert bomb.stat().st_size < 2_000_000
    decoder = decode.Decoder(VideoConfig(decode_workers=1))
    answers = dict(decoder.decode([("s1", str(bomb)), ("s2", str(good))]))
    decoder.close()
    error = answers[str(bomb)]
    assert isinstance(error, BadVideo) and "\n" not in str(error)
    assert answers[str(good)].pixels.shape == (4, 64, 64, 3)


def test_changed_bytes_give_frames_or_an_error_of_one_line_and_never_a_crash(frames, good, tmp_path):
    random, data = np.random.default_rng(0), good.read_bytes()
    outcomes = []
    for number in range(30):
        corrupted = bytearray(data)
        for position in random.integers(8, len(data), 20):
            corrupted[position] = random.integers(256)
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(corrupted)
        try:
            video = frames(Prompt("s1", "?", video=str(path))).video
            outcomes.append(video.shape[1:] == (252, 252, 3))
        except BadVideo as error:
            outcomes.append("\n" not in str(error))
    assert all(outcomes) and len(outcomes) == 30
