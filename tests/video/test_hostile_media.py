"""Files that are not what they seem: each is refused in one line, quickly, and nothing in it is obeyed."""

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
from rlvid.video.cache import Frames
from rlvid.video.read import BadVideo
from tests.helpers import media

ROOT = Path(__file__).parents[2]


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


def two_sizes(path, whole, server):
    parts = [media.write(path.with_name(f"{n}.ts"), media.greys(8, n, n), codec="mpeg2video", fps=25) for n in (64, 32)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))


NO_FILM = "no video file: its content is of no format of films"
FILES = {
    "nothing": (lambda p, w, s: None, "no such file"),
    "empty": (lambda p, w, s: p.write_bytes(b""), "is empty"),
    "a folder": (lambda p, w, s: p.mkdir(), "is a directory"),
    "a link to nothing": (lambda p, w, s: p.symlink_to(p.with_name("nothing.mp4")), "no such file"),
    "a link to itself": (lambda p, w, s: p.symlink_to(p), "cannot be opened: Too many levels"),
    "a file as a folder": (lambda p, w, s: p.symlink_to(w / "clip.mp4"), "cannot be opened: Not a directory"),
    "a pipe": (lambda p, w, s: os.mkfifo(p), "is no plain file"),
    "a device without end": (lambda p, w, s: p.symlink_to("/dev/zero"), "is no plain file"),
    "a socket": (lambda p, w, s: socket.socket(socket.AF_UNIX).bind(str(p)), "is no plain file"),
    "zeros": (lambda p, w, s: p.write_bytes(bytes(100_000)), NO_FILM),
    "a terabyte of zeros": (lambda p, w, s: p.touch() or os.truncate(p, 1 << 40), NO_FILM),
    "noise": (lambda p, w, s: p.write_bytes(np.random.default_rng(0).bytes(100_000)), NO_FILM),
    "text": (lambda p, w, s: p.write_text("This is no video.\n" * 50), NO_FILM),
    "a page": (lambda p, w, s: p.write_text("<html><body>404 Not Found</body></html>" * 50), NO_FILM),
    "a pointer of git's": (lambda p, w, s: p.write_text("version https://git-lfs.github.com/spec/v1\n"), NO_FILM),
    "an archive": (lambda p, w, s: p.write_bytes(b"PK\x03\x04" + bytes(1000)), NO_FILM),
    "only a header": (lambda p, w, s: p.write_bytes(w.read_bytes()[:40]), "truncated: its index (moov) is missing"),
    "half of it": (lambda p, w, s: media.truncated(p, w, 0.5), "truncated: its index (moov) is missing"),
    "a hole in it": (middle, "does not decode to its end"),
    "two sizes": (two_sizes, "changes its size midway"),
    "sound": (lambda p, w, s: media.audio_only(p), "holds no video stream"),
    "a picture": (lambda p, w, s: Image.new("RGB", (64, 64)).save(p, "PNG"), NO_FILM),
    "a playlist of the net": (playlist, NO_FILM),
    "a playlist of the disk": (local_playlist, NO_FILM),
    "a list of films": (concatenation, NO_FILM),
    "a description of a stream": (description, NO_FILM),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    random = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
    return media.write(tmp_path_factory.mktemp("whole") / "whole.mp4", random)


@pytest.fixture(scope="module")
def frames():
    frames = Frames(VideoConfig(decode_timeout=10))
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
    make, reason = FILES[kind]
    make(path, whole, server[0])
    start = time.monotonic()
    with pytest.raises(BadVideo) as caught:
        frames(Prompt("s1", "?", video=str(path)))
    assert time.monotonic() - start < 9, "not by waiting"
    assert str(caught.value).startswith(f"sample s1: {path}: {reason}") and "\n" not in str(caught.value)
    time.sleep(0.1)
    assert not server[1], "nobody was called"


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a device without end", "a socket", "empty", "noise", "half"])
def test_so_is_an_image(frames, tmp_path, server, kind):
    path = tmp_path / "image.png"
    if kind == "half":
        Image.effect_noise((64, 64), 90).save(path)
        path.write_bytes(path.read_bytes()[:1000])
    else:
        FILES[kind][0](path, None, server[0])
    with pytest.raises(BadVideo, match=r"^sample s1: .*image\.png: "):
        frames(Prompt("s1", "?", image=str(path)))


@pytest.mark.parametrize("shut", ["file", "folder"])
def test_what_may_not_be_read_is_said_to_be_so(whole, tmp_path, shut):
    """By somebody who is not root, in a process of their own."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = Path(shutil.copy(whole, folder / "clip.mp4"))
    (path if shut == "file" else folder).chmod(0)
    code = "import os, sys; from rlvid.video.read import check_file; os.getuid() or os.setuid(65534); "
    code += "os.chdir('/'); check_file('s1', sys.argv[1])"
    for open_to_all in (tmp_path, *list(tmp_path.parents)[:2]):
        open_to_all.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, cwd=ROOT)
    assert f"BadVideo: sample s1: {path}: cannot be opened: Permission denied" in done.stderr.splitlines()[-1]


def test_frames_too_large_for_the_memory_end_neither_the_run_nor_the_machine(tmp_path, monkeypatch):
    """Sixteen times the same 4096 x 4096 frame, in a few kilobytes."""
    monkeypatch.setattr(decode, "MEMORY", 500 << 20)
    bomb, good = tmp_path / "bomb.mp4", media.write(tmp_path / "good.mp4", media.greys(8))
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
    answers = dict(decoder([("s1", str(bomb)), ("s2", str(good))]))
    decoder.close()
    assert isinstance(answers[str(bomb)], BadVideo) and "\n" not in str(answers[str(bomb)])
    assert answers[str(good)].shape == (4, 64, 64, 3)


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
