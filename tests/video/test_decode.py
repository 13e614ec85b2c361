"""Real video files, unusual and broken ones, decoded by real worker processes."""

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
from rlvid.video.cache import FrameCache
from rlvid.video.decode import Decoder
from rlvid.video.read import BadVideo, Frames, frame_indices, read_with_pyav
from tests.helpers import media

GREY_TOLERANCE = 3  # levels of 255 by which lossy codecs change solid grey


@pytest.fixture(scope="module")
def decoder():
    decoder = Decoder(VideoConfig())
    yield decoder
    decoder.close()


def decode(decoder, path):
    """The pixels of a clip, or its error."""
    [(_, answer)] = decoder.decode([("s1", str(path))])
    return answer.pixels if isinstance(answer, Frames) else answer


def error_reason(decoder, path):
    """Why a file cannot be read, from its one-line error."""
    error = decode(decoder, path)
    assert isinstance(error, BadVideo) and isinstance(error, UserError)
    assert str(error).startswith(f"sample s1: {path}: ") and "\n" not in str(error)
    return error.reason


def levels(frames):
    """The grey level of each frame's middle."""
    return frames[:, frames.shape[1] // 2, frames.shape[2] // 2, 0].astype(int)


# Files that decode


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
        ("old.avi", (64, 64), {"codec": "mpeg2video", "fps": 25}),  # decord returns other frames, without an error
        ("broadcast.ts", (64, 64), {"codec": "mpeg2video", "fps": 25}),  # here too: one frame late
        ("gops.mp4", (64, 64), {"g": "5", "bf": "3"}),
    ],
)
def test_the_chosen_frames_are_the_returned_frames(decoder, tmp_path, name, shape, options):
    path = media.write_video(tmp_path / name, media.grey_frames(24, *shape), **options)
    frames = decode(decoder, path)
    expected = np.array(frame_indices(24, options.get("fps", 8), VideoConfig())) * 8
    assert frames.dtype == np.uint8 and frames.shape == (len(expected), *shape, 3)
    assert abs(levels(frames) - expected).max() <= GREY_TOLERANCE


def test_a_video_of_variable_frame_rate_is_sampled_by_frame_number(decoder, tmp_path):
    path = media.write_video(
        tmp_path / "vfr.mp4", media.grey_frames(24), ticks=[i * i for i in range(24)]
    )  # lasts 66 s: sixteen frames
    expected = np.array(frame_indices(24, 24 / 66, VideoConfig())) * 8
    assert abs(levels(decode(decoder, path)) - expected).max() <= GREY_TOLERANCE


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_very_short_clip_gives_as_many_frames_as_it_has(decoder, tmp_path, count):
    frames = decode(decoder, media.write_video(tmp_path / "short.mp4", media.grey_frames(count, step=80)))
    assert abs(levels(frames) - np.array([[0], [0, 80], [0, 160]][count - 1])).max() <= GREY_TOLERANCE


def test_a_long_clip_gives_sixteen_frames(decoder, tmp_path):
    path = media.write_video(tmp_path / "long.mp4", media.grey_frames(2400, 32, 32, step=1), fps=10)
    expected = np.array(frame_indices(2400, 10, VideoConfig())) % 256
    assert len(expected) == 16 and abs(levels(decode(decoder, path)) - expected).max() <= GREY_TOLERANCE


@pytest.mark.parametrize(("name", "codec"), [("film.mp4", "libx264"), ("film.avi", "mpeg2video")])
def test_a_time_span_of_a_film_is_read(decoder, tmp_path, name, codec):
    path = media.write_video(tmp_path / name, media.grey_frames(60, step=4), fps=25, codec=codec)
    expected = 25 + np.array(frame_indices(26, 25, VideoConfig()))  # from 1 s to 2 s, both ends included
    assert abs(levels(decode(decoder, f"{path}#t=1,2.0")) - expected * 4).max() <= GREY_TOLERANCE
    assert abs(levels(decode(decoder, f"{path}#t=2,9"))[-1] - 59 * 4) <= GREY_TOLERANCE  # ends with the film
    assert levels(decode(decoder, f"{path}#t=1,1.01")).tolist() == levels(decode(decoder, f"{path}#t=1,1")).tolist()
    assert error_reason(decoder, f"{path}#t=2.5,9") == "lasts 2.4 s: there is nothing from 2.5 to 9 s"
    [missing] = FrameCache(VideoConfig(cache_dir=str(tmp_path))).warm([Prompt("s1", "q?", video=f"{path}x#t=1,2")])
    assert missing.reason == "no such file"


def test_frames_are_chosen_among_those_that_decode_and_frames_hidden_by_an_edit_list_are_not_shown(decoder, tmp_path):
    """A clip cut without re-encoding: 30 packets, the first 8 of which only help to decode the others."""
    whole = media.write_video(
        tmp_path / "whole.mp4", media.grey_frames(40, step=6), g="10", **{"x264-params": "scenecut=0"}
    )
    frames = decode(decoder, media.write_cut(tmp_path / "cut.mp4", whole, first=18, fps=8))
    shown = levels(frames)
    assert (np.diff(shown) > 0).all()  # decord alone returns these out of order
    assert abs(shown[0] - 18 * 6) <= 6 + GREY_TOLERANCE and abs(shown[-1] - 39 * 6) <= GREY_TOLERANCE


def test_fallbacks_are_counted(tmp_path):
    plain = media.write_video(tmp_path / "plain.mp4", media.grey_frames(8))
    av1 = media.write_video(tmp_path / "av1.mp4", media.grey_frames(8), codec="libsvtav1", preset="12")
    decoder = Decoder(VideoConfig())
    answers = dict(decoder.decode([("a", str(plain)), ("b", str(av1))]))
    decoder.close()
    assert all(isinstance(frames, Frames) for frames in answers.values())
    assert decoder.fallbacks == 1


# Files that do not decode


def test_each_kind_of_broken_file_has_its_own_error(decoder, tmp_path):
    whole = media.write_video(tmp_path / "whole.mp4", media.grey_frames(24))
    noise = np.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), dtype=np.uint8)
    front = media.write_video(tmp_path / "front.mp4", noise, container={"movflags": "faststart"})
    mkv = media.write_video(tmp_path / "whole.mkv", noise)
    text = tmp_path / "text.mp4"
    text.write_text("This is no video.\n" * 50)
    reasons = {
        media.write_truncated(tmp_path / "no_index.mp4", whole, 0.5): "truncated: its index (moov) is missing",
        media.write_truncated(tmp_path / "half.mp4", front, 0.5): "truncated: 30 of 60 frames",
        media.write_truncated(tmp_path / "nearly.mp4", front, 0.999): "does not decode to its end",
        media.write_truncated(tmp_path / "half.mkv", mkv, 0.5): "truncated: 3.6 of 7.5 seconds",
        media.write_audio_only(tmp_path / "audio.mp4"): "holds no video stream",
        text: "not a video file: its content has no known video format",
    }
    for path, expected in reasons.items():
        assert error_reason(decoder, path).startswith(expected), path


def test_a_video_stream_without_frames_is_an_error(decoder, tmp_path):
    with av.open(str(tmp_path / "hollow.mp4"), "w", options={"movflags": "empty_moov+frag_keyframe"}) as container:
        stream = container.add_stream("libx264", rate=8)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        container.start_encoding()
    assert error_reason(decoder, tmp_path / "hollow.mp4") == "holds a video stream without frames"


def test_a_decoder_that_hangs_is_killed_and_the_next_clip_decodes(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    slow, good = tmp_path / "slow.mp4", media.write_video(tmp_path / "good.mp4", media.grey_frames(8))
    slow.write_bytes(good.read_bytes())
    decoder = Decoder(VideoConfig(decode_timeout=0.5, decode_workers=1), readers=(media.hang_on_slow,))
    start = time.monotonic()
    answers = dict(decoder.decode([("s1", str(slow)), ("s2", str(good))]))
    assert 0.5 < time.monotonic() - start < 10
    assert answers[str(slow)].reason == "took longer than video.decode_timeout = 0.5 s to decode"
    assert answers[str(good)].pixels.shape == (4, 64, 64, 3)
    assert decoder.workers_started == 2  # the killed one was replaced
    decoder.close()


def test_a_clip_that_hangs_or_crashes_one_reader_is_read_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    path = media.write_video(tmp_path / "slow.mp4", media.grey_frames(8))
    for bad_reader in (media.hang_on_slow, media.crash):
        decoder = Decoder(VideoConfig(decode_timeout=0.5), readers=(bad_reader, read_with_pyav))
        assert decode(decoder, path).shape == (4, 64, 64, 3) and decoder.fallbacks == 1
        decoder.close()
    decoder = Decoder(VideoConfig(), readers=(media.crash,))
    assert "the decoding process died (exit status -11)" in error_reason(decoder, path)


def test_a_hanging_worker_dies_in_time_even_if_its_parent_is_dead(tmp_path):
    """The kernel's timer ends the worker, whether or not a parent waits for it."""
    (tmp_path / "slow.mp4").touch()
    code = f"""
from rlvid.config import VideoConfig
from rlvid.video.decode import Worker
from tests.helpers.media import hang_on_slow
worker = Worker.start()
worker.pipe.send((hang_on_slow, {str(tmp_path / "slow.mp4")!r}, VideoConfig(decode_timeout=1.0)))
print(worker.process.pid, flush=True)
"""
    pid = int(subprocess.check_output([sys.executable, "-c", code], cwd=Path(__file__).parents[2]))
    assert Path(f"/proc/{pid}").exists()
    deadline = time.monotonic() + 20
    while (stat := Path(f"/proc/{pid}/stat")).exists() and " Z " not in stat.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_workers_start_without_torch_and_end_when_the_decoder_closes(tmp_path):
    code = "import sys, json, rlvid.video.decode; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(subprocess.check_output([sys.executable, "-c", code]))
    assert "rlvid.video.read" in modules and not {"torch", "transformers", "decord"} & set(modules)
    decoder = Decoder(VideoConfig())
    decode(decoder, media.write_video(tmp_path / "a.mp4", media.grey_frames(4)))
    [worker] = decoder.idle
    decoder.close()
    assert worker.process.poll() is not None
