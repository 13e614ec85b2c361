"""The right frames are chosen, and both video readers and Pillow return their pixels unchanged."""

from math import inf

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rlvid.config import VideoConfig
from rlvid.video.read import BadVideo, frame_clock, frame_indices, read_image, read_with_decord, read_with_pyav
from tests.helpers import media


@pytest.mark.parametrize(
    ("total", "fps", "expected"),
    [
        (1, 8, [0]),
        (2, 8, [0, 1]),
        (3, 8, [0, 2]),  # fewer than the least number of four, and the number must be even
        (24, 8, [0, 5, 9, 14, 18, 23]),  # 3 s at 2 fps
        (28, 8, [0, 5, 11, 16, 22, 27]),  # 3.5 s: 7 frames, rounded down to 6
        (30, 30, [0, 10, 19, 29]),  # 1 s: at least four
        (9000, 30, [600 * i - (i > 7) for i in range(16)]),  # 5 minutes: at most sixteen, ends included
    ],
)
def test_frame_indices(total, fps, expected):
    assert frame_indices(total, fps, VideoConfig()) == expected


@given(st.integers(2, 200_000), st.floats(0.5, 240), st.integers(2, 9), st.integers(0, 60))
def test_frame_indices_are_the_papers(total, fps, fewest, more):
    """`smart_nframes` and the linspace of SEED-Bench-R1's vision_process_egoplan.py, written out."""
    video = VideoConfig(min_frames=fewest, max_frames=fewest + 1 + more)
    low, high = -(-fewest // 2) * 2, video.max_frames // 2 * 2
    count = min(min(max(total / fps * 2.0, low), high), total) // 2 * 2
    expected = torch.linspace(0, total - 1, int(count), dtype=torch.float64).round().long().tolist()
    assert frame_indices(total, fps, video) == expected


def test_an_unknown_frame_rate_takes_as_many_frames_as_allowed():
    assert len(frame_indices(100, 0.0, VideoConfig())) == 16


def test_both_readers_return_the_same_pixels(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 80, 3), dtype=np.uint8)
    path = str(media.write_video(tmp_path / "noise.mp4", noise, g="8", bf="2"))
    decord, pyav = read_with_decord(path, VideoConfig()), read_with_pyav(path, VideoConfig())
    np.testing.assert_array_equal(decord.pixels, pyav.pixels)
    assert decord.clock.times.tolist() == pyav.clock.times.tolist() and len(decord.clock.times) == len(decord.pixels)
    assert decord.clock.sampled_fps == pyav.clock.sampled_fps


@pytest.mark.parametrize("reader", [read_with_decord, read_with_pyav])
def test_times_are_seconds_from_the_clips_start(reader, tmp_path):
    """40 frames at 8 per second: 5 s, of which ten frames are shown; from 1 to 3 s, 17 frames, of which four."""
    path = str(media.write_video(tmp_path / "clip.mp4", media.grey_frames(40, step=4)))
    whole = [0, 4, 9, 13, 17, 22, 26, 30, 35, 39]
    times, sampled_fps = reader(path, VideoConfig()).clock
    assert times.tolist() == [i / 8 for i in whole] and sampled_fps == 2
    times, sampled_fps = reader(f"{path}#t=1,3", VideoConfig()).clock
    assert times.tolist() == [0.0, 5 / 8, 11 / 8, 2.0] and sampled_fps == pytest.approx(4 / (17 / 8))


def test_times_are_unknown_without_a_frame_rate():
    assert frame_clock([0, 5, 9], total=10, native_fps=0.0, start=0.0, end=inf) is None


def test_both_readers_apply_the_display_matrix(tmp_path):
    frames = np.zeros((8, 64, 128, 3), np.uint8)
    frames[:, :32, :64] = 255  # top left; top right after a clockwise rotation
    flat = media.write_video(tmp_path / "flat.mp4", frames)
    path = media.write_rotated(tmp_path / "rotated.mp4", flat, height=64)
    corners = {"top left": (20, 12), "top right": (20, 52), "bottom left": (100, 12), "bottom right": (100, 52)}
    for reader in (read_with_decord, read_with_pyav):
        upright = reader(str(path), VideoConfig()).pixels
        assert upright.shape == (4, 128, 64, 3)
        white = [name for name, (y, x) in corners.items() if upright[0, y, x, 0] >= 128]
        assert white == ["top right"]


def test_images_are_rgb_and_upright_and_transparency_is_white(tmp_path):
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation "rotate clockwise": the top left becomes the top right
    Image.fromarray(pixels).save(tmp_path / "rotated.png", exif=exif)
    upright = read_image("s1", str(tmp_path / "rotated.png"))
    assert upright.shape == (6, 4, 3) and upright[0, 3].tolist() == [255, 255, 255] and upright.sum() == 3 * 255

    Image.new("RGBA", (3, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_image("s1", str(tmp_path / "clear.png")) == 255).all()
    Image.new("L", (3, 2), 7).save(tmp_path / "grey.png")
    assert (read_image("s1", str(tmp_path / "grey.png")) == np.full((2, 3, 3), 7)).all()


def test_each_kind_of_broken_image_has_its_own_error(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / "good.png")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    half = media.write_truncated(tmp_path / "half.png", tmp_path / "good.png", 0.5)
    for path, expected in {
        tmp_path / "text.png": "not a readable image (cannot identify image file",
        tmp_path / "empty.png": "is empty (0 bytes)",
        half: "not a readable image (image file is truncated",
        tmp_path / "missing.png": "no such file",
        tmp_path: "is a directory, not a file",
    }.items():
        with pytest.raises(BadVideo) as error:
            read_image("s1", str(path))
        assert str(error.value).startswith(f"sample s1: {path}: {expected}")
