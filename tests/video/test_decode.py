"""Real files, odd and broken, through real worker processes."""

import json
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from rlvid.config import VideoConfig
from rlvid.errors import UserError
from rlvid.types import Prompt
from rlvid.video.cache import Frames
from rlvid.video.decode import Decoder
from rlvid.video.read import BadVideo, by_pyav, frame_indices
from tests.helpers import media

GREY_TOLERANCE = 3  # levels: what lossy codecs make of solid grey


@pytest.fixture(scope="module")
def decoder():
    decoder = Decoder(VideoConfig())
    yield decoder
    decoder.close()


def decode(decoder, path):
    [(_, answer)] = decoder([("s1", str(path))])
    return answer


def reason(decoder, path):
    """What is wrong with a file, as the one-line error says it."""
    error = decode(decoder, path)
    assert isinstance(error, BadVideo) and isinstance(error, UserError)
    assert str(error).startswith(f"sample s1: {path}: ") and "\n" not in str(error)
    return error.reason


def levels(frames):
    """The grey level of each frame's middle."""
    return frames[:, frames.shape[1] // 2, frames.shape[2] // 2, 0].astype(int)


# What decodes


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("plain.mp4", (64, 64), {}),
        ("portrait.mp4", (96, 64), {}),
        ("strided.mp4", (96, 48), {}),  # decord 0.6 cannot copy 48 pixels a row
        ("odd.mp4", (51, 73), {"pix_fmt": "yuv444p"}),
        ("odd.webm", (51, 73), {"codec": "libvpx-vp9", "deadline": "realtime"}),
        ("av1.mp4", (64, 64), {"codec": "libsvtav1", "preset": "12", "svtav1-params": "tune=0"}),
        ("av1.mkv", (64, 64), {"codec": "libsvtav1", "preset": "12"}),
        ("old.avi", (64, 64), {"codec": "mpeg2video", "fps": 25}),  # decord returns other frames, without a word
        ("broadcast.ts", (64, 64), {"codec": "mpeg2video", "fps": 25}),  # so here: one frame late
        ("gops.mp4", (64, 64), {"g": "5", "bf": "3"}),
    ],
)
def test_the_frames_chosen_are_the_frames_returned(decoder, tmp_path, name, shape, options):
    path = media.write(tmp_path / name, media.greys(24, *shape), **options)
    frames = decode(decoder, path)
    expected = np.array(frame_indices(24, options.get("fps", 8), VideoConfig())) * 8
    assert frames.dtype == np.uint8 and frames.shape == (len(expected), *shape, 3)
    assert abs(levels(frames) - expected).max() <= GREY_TOLERANCE


def test_variable_frame_rate_is_sampled_by_frame_number(decoder, tmp_path):
    path = media.write(tmp_path / "vfr.mp4", media.greys(24), ticks=[i * i for i in range(24)])  # 66 s: sixteen frames
    expected = np.array(frame_indices(24, 24 / 66, VideoConfig())) * 8
    assert abs(levels(decode(decoder, path)) - expected).max() <= GREY_TOLERANCE


@pytest.mark.parametrize("count", [1, 2, 3])
def test_very_short_clips_give_what_they_have(decoder, tmp_path, count):
    frames = decode(decoder, media.write(tmp_path / "short.mp4", media.greys(count, step=80)))
    assert abs(levels(frames) - np.array([[0], [0, 80], [0, 160]][count - 1])).max() <= GREY_TOLERANCE


def test_a_long_clip_gives_sixteen_frames(decoder, tmp_path):
    path = media.write(tmp_path / "long.mp4", media.greys(2400, 32, 32, step=1), fps=10)
    expected = np.array(frame_indices(2400, 10, VideoConfig())) % 256
    assert len(expected) == 16 and abs(levels(decode(decoder, path)) - expected).max() <= GREY_TOLERANCE


@pytest.mark.parametrize(("name", "codec"), [("film.mp4", "libx264"), ("film.avi", "mpeg2video")])
def test_some_seconds_of_a_film(decoder, tmp_path, name, codec):
    path = media.write(tmp_path / name, media.greys(60, step=4), fps=25, codec=codec)
    expected = 25 + np.array(frame_indices(26, 25, VideoConfig()))  # from 1 s to 2 s, both ends included
    assert abs(levels(decode(decoder, f"{path}#t=1,2.0")) - expected * 4).max() <= GREY_TOLERANCE
    assert abs(levels(decode(decoder, f"{path}#t=2,9"))[-1] - 59 * 4) <= GREY_TOLERANCE  # ends with the film
    assert levels(decode(decoder, f"{path}#t=1,1.01")).tolist() == levels(decode(decoder, f"{path}#t=1,1")).tolist()
    assert reason(decoder, f"{path}#t=2.5,9") == "lasts 2.4 s: there is nothing from 2.5 to 9 s"
    [missing] = Frames(VideoConfig(cache_dir=str(tmp_path))).warm([Prompt("s1", "q?", video=f"{path}x#t=1,2")])
    assert missing.reason == "no such file"


def test_indices_are_clamped_to_what_decodes_and_hidden_frames_stay_hidden(decoder, tmp_path):
    """A clip cut without re-encoding: 30 packets, of which the first 8 are there only for the others to decode."""
    whole = media.write(tmp_path / "whole.mp4", media.greys(40, step=6), g="10", **{"x264-params": "scenecut=0"})
    frames = decode(decoder, media.cut(tmp_path / "cut.mp4", whole, first=18, fps=8))
    shown = levels(frames)
    assert (np.diff(shown) > 0).all()  # decord alone returns these out of order
    assert abs(shown[0] - 18 * 6) <= 6 + GREY_TOLERANCE and abs(shown[-1] - 39 * 6) <= GREY_TOLERANCE


def test_fallbacks_are_counted(tmp_path):
    plain = media.write(tmp_path / "plain.mp4", media.greys(8))
    av1 = media.write(tmp_path / "av1.mp4", media.greys(8), codec="libsvtav1", preset="12")
    decoder = Decoder(VideoConfig())
    answers = dict(decoder([("a", str(plain)), ("b", str(av1))]))
    decoder.close()
    assert all(isinstance(frames, np.ndarray) for frames in answers.values())
    assert decoder.fallbacks == 1


# What does not


def test_each_kind_of_broken_file_has_its_own_error(decoder, tmp_path):
    whole = media.write(tmp_path / "whole.mp4", media.greys(24))
    noise = np.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), dtype=np.uint8)
    front = media.write(tmp_path / "front.mp4", noise, container={"movflags": "faststart"})
    mkv = media.write(tmp_path / "whole.mkv", noise)
    text = tmp_path / "text.mp4"
    text.write_text("This is no video.\n" * 50)
    reasons = {
        media.truncated(tmp_path / "no_index.mp4", whole, 0.5): "truncated: its index (moov) is missing",
        media.truncated(tmp_path / "half.mp4", front, 0.5): "truncated: 30 of 60 frames",
        media.truncated(tmp_path / "nearly.mp4", front, 0.999): "does not decode to its end",
        media.truncated(tmp_path / "half.mkv", mkv, 0.5): "truncated: 3.6 of 7.5 seconds",
        media.audio_only(tmp_path / "audio.mp4"): "holds no video stream",
        text: "no video file: its content is of no format of films",
    }
    for path, expected in reasons.items():
        assert reason(decoder, path).startswith(expected), path


def test_a_video_stream_without_frames_is_an_error(decoder, tmp_path):
    with av.open(str(tmp_path / "hollow.mp4"), "w", options={"movflags": "empty_moov+frag_keyframe"}) as container:
        stream = container.add_stream("libx264", rate=8)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        container.start_encoding()
    assert reason(decoder, tmp_path / "hollow.mp4") == "holds a video stream without frames"


def test_a_decoder_that_hangs_is_killed_and_the_next_clip_decodes(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    slow, good = tmp_path / "slow.mp4", media.write(tmp_path / "good.mp4", media.greys(8))
    slow.write_bytes(good.read_bytes())
    decoder = Decoder(VideoConfig(decode_timeout=0.5, decode_workers=1), readers=(media.hang_on_slow,))
    start = time.monotonic()
    answers = dict(decoder([("s1", str(slow)), ("s2", str(good))]))
    assert 0.5 < time.monotonic() - start < 10
    assert answers[str(slow)].reason == "took longer than video.decode_timeout = 0.5 s to decode"
    assert answers[str(good)].shape == (4, 64, 64, 3)
    assert decoder.started == 2  # the killed one was replaced
    decoder.close()


def test_a_clip_that_hangs_or_crashes_one_reader_is_read_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    path = media.write(tmp_path / "slow.mp4", media.greys(8))
    for bad in (media.hang_on_slow, media.crash):
        decoder = Decoder(VideoConfig(decode_timeout=0.5), readers=(bad, by_pyav))
        assert decode(decoder, path).shape == (4, 64, 64, 3) and decoder.fallbacks == 1
        decoder.close()
    decoder = Decoder(VideoConfig(), readers=(media.crash,))
    assert "the decoder died of it (exit status -11)" in reason(decoder, path)


def test_a_hanging_decoder_dies_in_time_though_its_parent_is_dead(tmp_path):
    """The alarm is the kernel's: it rings whether or not anyone waits for the worker."""
    (tmp_path / "slow.mp4").touch()
    code = f"""
from rlvid.config import Video
from rlvid.video.decode import Worker
from tests.helpers.media import hang_on_slow
worker = Worker.start()
worker.pipe.send((hang_on_slow, {str(tmp_path / "slow.mp4")!r}, Video(decode_timeout=1.0)))
print(worker.process.pid, flush=True)
"""
    pid = int(subprocess.check_output([sys.executable, "-c", code], cwd=Path(__file__).parents[2]))
    assert Path(f"/proc/{pid}").exists()
    deadline = time.monotonic() + 20
    while (stat := Path(f"/proc/{pid}/stat")).exists() and " Z " not in stat.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_workers_start_without_torch_and_end_with_the_decoder(tmp_path):
    code = "import sys, json, rlvid.video.decode; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(subprocess.check_output([sys.executable, "-c", code]))
    assert "rlvid.video.read" in modules and not {"torch", "transformers", "decord"} & set(modules)
    decoder = Decoder(VideoConfig())
    decode(decoder, media.write(tmp_path / "a.mp4", media.greys(4)))
    [worker] = decoder.idle
    decoder.close()
    assert worker.process.poll() is not None
