"""Views depend on the clip, the sample id and the seed only."""

import numpy as np
import pytest

from rlvid.errors import UserError
from rlvid.video.pixels import OPENAI_CLIP_MEAN
from rlvid.video.read import Clock
from rlvid.video.views import MEAN_GREY, VIEWS, Clip, apply_view, check_views, diffusion_kept, same_pixels


def numbered_clip(count=8):
    """A clip whose frame i has level i everywhere, with an image of level 99."""
    video = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 4, 6, 3))
    return Clip(video, np.full((4, 6, 3), 99, np.uint8), Clock(np.arange(count) / 2, 2.0))


def frame_order(clip):
    return clip.video[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("count", [2, 3, 8])
def test_shuffled_is_always_another_order_of_the_same_frames(count):
    for i in range(50):
        shuffled = apply_view("shuffled", numbered_clip(count), f"s{i}")
        assert sorted(frame_order(shuffled)) == list(range(count)) != frame_order(shuffled)
        np.testing.assert_array_equal(shuffled.image, numbered_clip().image)


def test_shuffled_depends_on_sample_and_seed_and_nothing_else():
    first = frame_order(apply_view("shuffled", numbered_clip(), "s1"))
    np.random.default_rng(5).random()
    np.random.seed(1)
    assert frame_order(apply_view("shuffled", numbered_clip(), "s1")) == first
    assert frame_order(apply_view("shuffled", numbered_clip(), "s2")) != first
    assert frame_order(apply_view("shuffled", numbered_clip(), "s1", seed=1)) != first
    assert first == [5, 1, 6, 3, 7, 4, 2, 0]  # a change of this order would change the results of old runs


def test_a_single_frame_has_no_other_order():
    assert frame_order(apply_view("shuffled", numbered_clip(1), "s1")) == [0]


def test_reversed_blank_and_missing_media():
    assert frame_order(apply_view("reversed", numbered_clip(), "s1")) == [7, 6, 5, 4, 3, 2, 1, 0]
    blank = apply_view("blank", numbered_clip(), "s1")
    assert blank.video.shape == (8, 4, 6, 3) and blank.image.shape == (4, 6, 3) and blank.video.dtype == np.uint8
    assert (blank.video == MEAN_GREY).all() and (blank.image == MEAN_GREY).all()
    assert np.abs(np.array(MEAN_GREY) / 255 - OPENAI_CLIP_MEAN).max() <= 0.5 / 255
    image_only = apply_view("image_only", numbered_clip(), "s1")
    assert image_only.video is None and (image_only.image == 99).all()
    text_only = apply_view("text_only", numbered_clip(), "s1")
    assert text_only.video is None and text_only.image is None


def bright_clip(size=56):
    return Clip(np.full((4, size, size, 3), 200, np.uint8), np.full((size, size, 3), 200, np.uint8))


def test_patches_are_black_squares_in_the_same_places_of_all_frames():
    seen = apply_view("patches", bright_clip(), "s1")
    assert (seen.video == seen.video[:1]).all() and {*np.unique(seen.video)} == {0, 200}
    squares = seen.video[0, ::14, ::14, 0].repeat(14, 0).repeat(14, 1)
    np.testing.assert_array_equal(seen.video[0, ..., 0], squares)
    assert (seen.image != seen.video[0]).any(), "the image has squares of its own"
    shares = [(apply_view("patches:0.6", bright_clip(), f"s{i}").image == 0).mean() for i in range(200)]
    assert np.mean(shares) == pytest.approx(0.6, abs=0.03)
    fewer, more = (apply_view(f"patches:{p}", bright_clip(), "s1").image == 0 for p in (0.3, 0.6))
    assert (more | ~fewer).all(), "a higher probability blackens the same squares and more"
    odd = apply_view("patches", bright_clip(20), "s1")
    assert odd.video.shape == (4, 20, 20, 3) and odd.video.dtype == np.uint8
    assert (apply_view("patches:0", bright_clip(), "s1").video == 200).all()


def test_noise_has_the_size_of_a_diffusion_step():
    assert [1 - diffusion_kept(k) for k in (450, 500)] == pytest.approx([0.413**2, 0.505**2], abs=1e-3)
    grey = Clip(np.full((4, 64, 64, 3), 128, np.uint8), np.full((64, 64, 3), 128, np.uint8))
    for step in (100, 250):  # where few pixels are cut off at black or white
        noisy = apply_view(f"noise:{step}", grey, "s1").video / 255
        assert noisy.std() == pytest.approx((1 - diffusion_kept(step)) ** 0.5, rel=0.03)
        assert noisy.mean() == pytest.approx(diffusion_kept(step) ** 0.5 * 128 / 255, abs=0.01)
    assert (apply_view("noise", grey, "s1").video != apply_view("noise:500", grey, "s2").video).any()
    assert (apply_view("noise", grey, "s1").image == apply_view("noise:500", grey, "s1").image).all()


def test_a_crop_is_a_window_in_time_and_space_at_the_same_shape():
    times, rows, columns = np.meshgrid(np.arange(8), np.arange(20), np.arange(30), indexing="ij")
    clip = Clip(
        np.stack([times, rows, columns], -1).astype(np.uint8), np.stack([rows, columns, rows], -1)[0].astype("u1")
    )
    starts = set()
    for i in range(50):
        seen = apply_view("crop:0.5", clip, f"s{i}")
        assert seen.video.shape == clip.video.shape and seen.image.shape == clip.image.shape
        for axis, size in enumerate((4, 10, 15)):
            values = np.unique(seen.video[..., axis])
            assert values.tolist() == list(range(values[0], values[0] + size)), "each place of the window is shown"
            assert (np.diff(seen.video[..., axis].astype(int), axis=axis) >= 0).all(), "in order"
        starts.add((int(seen.video[0, 0, 0, 0]), int(seen.video[0, 0, 0, 1])))
    assert {start for start, _ in starts} == {0, 1, 2, 3, 4} and {start for _, start in starts} == {*range(11)}
    assert same_pixels(apply_view("crop:1", clip, "s1"), clip)
    assert apply_view("crop:0", clip, "s1").video.shape == clip.video.shape, "at least one pixel of one frame"


@pytest.mark.parametrize("view", ["patches:x", "patches:1.1", "noise:-1", "noise:nan", "blank:0.5"])
def test_a_strength_that_a_view_does_not_take_is_refused(view):
    with pytest.raises(UserError, match="strength"):
        apply_view(view, bright_clip(), "s1")


def test_two_clips_show_the_same_or_not():
    clip, image = numbered_clip(), Clip(None, numbered_clip().image)
    assert same_pixels(image, apply_view("shuffled", image, "s1")) and same_pixels(clip, numbered_clip())
    assert not same_pixels(clip, apply_view("shuffled", clip, "s1")) and not same_pixels(clip, image)


@pytest.mark.parametrize("name", ["shuffled", "reversed", "blank", "patches", "noise", "crop"])
def test_the_clock_stays_when_frames_change(name):
    assert apply_view(name, numbered_clip(), "s1").clock.times.tolist() == [i / 2 for i in range(8)]


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_accepts_a_clip_without_video_and_does_not_change_its_input(name):
    assert apply_view(name, Clip(None, numbered_clip().image), "s1").video is None
    assert apply_view(name, Clip(), "s1") == Clip()
    clip = Clip(np.array(numbered_clip().video), numbered_clip().image)
    apply_view(name, clip, "s1")
    assert frame_order(clip) == list(range(8)) and (clip.image == 99).all()


def test_an_unknown_view_is_refused_with_a_suggestion():
    check_views(VIEWS)
    for refuse in (lambda: check_views(["blank", "shufled"]), lambda: apply_view("shufled", numbered_clip(), "s1")):
        with pytest.raises(UserError, match=r"no view 'shufled'\. Did you mean 'shuffled'"):
            refuse()
