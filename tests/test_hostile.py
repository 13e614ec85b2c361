"""Files that are not what they seem: each is refused in one line, quickly, and nothing in it is obeyed."""

import os
import socket
import threading
import time

import numpy as np
import pytest
from PIL import Image

from rlvid.config import Video
from rlvid.types import Prompt
from rlvid.video.cache import Frames
from rlvid.video.read import BadVideo
from tests import media


def playlist(path, whole, server):
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{server}/clip.ts\n#EXT-X-ENDLIST\n")


def local_playlist(path, whole, server):
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nfile://{whole}\n#EXT-X-ENDLIST\n")


def concatenation(path, whole, server):
    path.write_text(f"ffconcat version 1.0\nfile {whole.name}\n")


def description(path, whole, server):
    path.write_text(
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video {server.rsplit(':', 1)[1]} RTP/AVP 96\n"
    )


def middle(path, whole, server):
    data = bytearray(whole.read_bytes())
    at = data.find(b"mdat") + 200
    data[at : at + 3000] = bytes(3000)
    path.write_bytes(data)


FILES = {
    "empty": lambda p, w, s: p.write_bytes(b""),
    "a folder": lambda p, w, s: p.mkdir(),
    "a link to nothing": lambda p, w, s: p.symlink_to(p.with_name("nothing.mp4")),
    "a link to itself": lambda p, w, s: p.symlink_to(p),
    "a pipe": lambda p, w, s: os.mkfifo(p),
    "a device without end": lambda p, w, s: p.symlink_to("/dev/zero"),
    "a socket": lambda p, w, s: socket.socket(socket.AF_UNIX).bind(str(p)),
    "zeros": lambda p, w, s: p.write_bytes(bytes(100_000)),
    "noise": lambda p, w, s: p.write_bytes(np.random.default_rng(0).bytes(100_000)),
    "text": lambda p, w, s: p.write_text("This is no video.\n" * 50),
    "a page": lambda p, w, s: p.write_text("<html><body>404 Not Found</body></html>" * 50),
    "a pointer of git's": lambda p, w, s: p.write_text("version https://git-lfs.github.com/spec/v1\nsize 1\n"),
    "an archive": lambda p, w, s: p.write_bytes(b"PK\x03\x04" + bytes(1000)),
    "only a header": lambda p, w, s: p.write_bytes(w.read_bytes()[:40]),
    "half of it": lambda p, w, s: media.truncated(p, w, 0.5),
    "a hole in it": middle,
    "sound": lambda p, w, s: media.audio_only(p),
    "a picture": lambda p, w, s: Image.new("RGB", (64, 64)).save(p, "PNG"),
    "a playlist of the net": playlist,
    "a playlist of the disk": local_playlist,
    "a list of films": concatenation,
    "a description of a stream": description,
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    random = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
    return media.write(tmp_path_factory.mktemp("whole") / "whole.mp4", random)


@pytest.fixture(scope="module")
def frames():
    frames = Frames(Video(decode_timeout=10))
    yield frames
    frames.close()


@pytest.fixture
def server():
    """Counts who calls."""
    calls = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            while True:
                try:
                    calls.append(listening.accept()[0])
                except OSError:
                    return

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", calls


def test_there_are_twenty_kinds():
    assert len(FILES) >= 20


@pytest.mark.parametrize("kind", FILES)
def test_it_is_refused_in_one_line_and_nothing_in_it_is_obeyed(frames, whole, server, tmp_path, kind):
    path = tmp_path / "clip.mp4"
    FILES[kind](path, whole, server[0])
    start = time.monotonic()
    with pytest.raises(BadVideo) as caught:
        frames(Prompt("s1", "?", video=str(path)))
    assert time.monotonic() - start < 9, "not by waiting"
    assert str(caught.value).startswith(f"sample s1: {path}: ") and "\n" not in str(caught.value)
    time.sleep(0.1)
    assert not server[1], "nobody was called"


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a device without end", "a socket", "empty", "noise", "half"])
def test_so_is_an_image(frames, tmp_path, server, kind):
    path = tmp_path / "image.png"
    if kind == "half":
        Image.effect_noise((64, 64), 90).save(path)
        path.write_bytes(path.read_bytes()[:1000])
    else:
        FILES[kind](path, None, server[0])
    with pytest.raises(BadVideo, match=r"^sample s1: .*image\.png: "):
        frames(Prompt("s1", "?", image=str(path)))


def test_flipped_bytes_give_frames_or_one_line_and_never_a_crash(frames, whole, tmp_path):
    random, data = np.random.default_rng(0), whole.read_bytes()
    outcomes = []
    for number in range(30):
        spoilt = bytearray(data)
        for at in random.integers(8, len(data), 20):
            spoilt[at] = random.integers(256)
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(spoilt)
        try:
            video = frames(Prompt("s1", "?", video=str(path))).video
            outcomes.append(video.shape[1:] == (252, 252, 3))
        except BadVideo as error:
            outcomes.append("\n" not in str(error))
    assert all(outcomes) and len(outcomes) == 30
