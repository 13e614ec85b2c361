"""Views depend on the clip, the sample id and the seed only."""

import numpy as np
import pytest

from rlvid.errors import UserError
from rlvid.video.pixels import OPENAI_CLIP_MEAN
from rlvid.video.read import Clock
from rlvid.video.views import MEAN_GREY, VIEWS, Clip, apply_view, check_views


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


@pytest.mark.parametrize("name", ["shuffled", "reversed", "blank"])
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
