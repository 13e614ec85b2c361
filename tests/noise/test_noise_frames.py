"""Damaged videos, wrong videos and bad narrations, on the embedded benchmark's own clips."""

from itertools import pairwise

import numpy as np
import pytest

from rlvid.config import NoiseConfig, VideoConfig
from rlvid.data.seed_bench_r1 import load
from rlvid.errors import UserError
from rlvid.noise.apply import apply_noise, build_noise, summarize_noise
from rlvid.noise.frames import EVIDENCE_NOISES, FRAME_DAMAGES
from rlvid.types import Prompt
from rlvid.video.cache import FrameCache
from rlvid.video.read import Clock
from rlvid.video.views import MEAN_GREY, Clip

SEVERITIES = (1, 2, 3, 4, 5)


def make_noise(kind, **fields):
    return build_noise(NoiseConfig(kind, 0, fields))


@pytest.fixture(scope="module")
def clean(kitchen):
    """The embedded benchmark's training prompts."""
    return load(kitchen, "train")


@pytest.fixture(scope="module")
def clips(clean):
    """A few training prompts with their clips."""
    frames = FrameCache(VideoConfig())
    pairs = [(prompt, frames(prompt)) for prompt in [p for p in clean if p.video][:6]]
    frames.close()
    return pairs


def changed_frames(before, after):
    """The indices of the frames that differ."""
    return {i for i in range(len(before)) if (before[i] != after[i]).any()}


def test_every_kind_has_a_test_here():
    assert EVIDENCE_NOISES.keys() == {"frames", "wrong_clip", "narrations"}


@pytest.mark.parametrize("how", FRAME_DAMAGES)
def test_a_higher_severity_keeps_the_shape_and_damages_the_same_frames_and_more(clips, how):
    for prompt, clip in clips:
        original = clip.video.copy()
        noises = [make_noise("frames", rate=1.0, how=how, severity=severity) for severity in SEVERITIES]
        damaged = [noise.corrupt_clip(prompt, clip) for noise in noises]
        for noisy in damaged:
            assert noisy.video.shape == original.shape and noisy.video.dtype == np.uint8
            assert noisy.image is clip.image
        assert (clip.video == original).all()  # the cached frames are not written to
        if how in ("drop", "blur"):
            changed = [changed_frames(original, noisy.video) for noisy in damaged]
            assert all(lower <= higher for lower, higher in pairwise(changed)) and changed[0]
            damage = [np.abs(original.astype(float) - noisy.video).mean() for noisy in damaged]
            assert damage == sorted(damage) and damage[0] < damage[-1]
        again = make_noise("frames", rate=1.0, how=how, severity=3).corrupt_clip(prompt, clip)
        assert (again.video == damaged[2].video).all()


# Frame i has level i + 1, and begins at i / 2 seconds.
NUMBERED = Clip(np.stack([np.full((8, 8, 3), i + 1, np.uint8) for i in range(20)]), clock=Clock(np.arange(20) / 2, 2.0))
ALL_NUMBERS = list(range(1, 21))
DAMAGED_OF_20 = [2, 4, 6, 9, 12]  # frames of 20, by severity
PROMPTS = [Prompt(f"s{i}", "?", video="v.mp4") for i in range(40)]


def shown_numbers(prompt, **fields):
    """The levels of the frames of NUMBERED after damage; 0 for a grey frame."""
    damaged = make_noise("frames", rate=1.0, **fields).corrupt_clip(prompt, NUMBERED)
    assert damaged.clock is NUMBERED.clock, "the clock stays"
    video = damaged.video
    return [0 if tuple(frame[0, 0]) == MEAN_GREY else int(frame[0, 0, 0]) for frame in video]


def wrong_positions(numbers):
    return [i for i, number in enumerate(numbers) if number != i + 1]


def test_the_severity_decides_how_many_frames_are_dropped():
    for prompt in PROMPTS:
        counts = [shown_numbers(prompt, how="drop", severity=severity).count(0) for severity in SEVERITIES]
        assert counts == DAMAGED_OF_20
    assert shown_numbers(PROMPTS[0], how="drop") != shown_numbers(PROMPTS[1], how="drop")


def test_the_severity_decides_how_many_frames_are_shuffled_and_none_is_lost():
    for prompt in PROMPTS:
        rows = [shown_numbers(prompt, how="shuffle", severity=severity) for severity in SEVERITIES]
        assert all(sorted(row) == ALL_NUMBERS for row in rows)
        moved = [set(wrong_positions(row)) for row in rows]
        assert [len(positions) for positions in moved] == DAMAGED_OF_20
        assert all(lower < higher for lower, higher in pairwise(moved))


def test_a_frozen_stretch_shows_its_first_frame_and_then_the_video_goes_on():
    for prompt in PROMPTS:
        rows = [shown_numbers(prompt, how="freeze", severity=severity) for severity in SEVERITIES]
        for row, count in zip(rows, DAMAGED_OF_20, strict=True):
            wrong = wrong_positions(row)
            assert wrong == list(range(wrong[0], wrong[0] + count))
            assert {row[i] for i in wrong} == {wrong[0]}  # the number of the frame before them


@pytest.mark.parametrize("transposed", [False, True])
def test_the_severity_decides_how_far_a_blur_spreads(transposed):
    """By a standard deviation of 1, 2, 3, 4, 6 pixels where the shorter side has 224, and half of them here."""
    stripe = np.zeros((112, 200), np.uint8)
    stripe[:, 90:110] = 255
    video = np.stack([stripe.T if transposed else stripe] * 3, axis=-1)[None]

    def variance(frame):
        row = frame[..., 0].sum(1 if transposed else 0).astype(float)
        return np.average((np.arange(200) - 99.5) ** 2, weights=row)

    for severity, sigma in zip(SEVERITIES, (0.5, 1, 1.5, 2, 3), strict=True):
        noise = make_noise("frames", rate=1.0, how="blur", severity=severity)
        [blurred] = noise.corrupt_clip(PROMPTS[0], Clip(video)).video
        assert variance(blurred) - variance(video[0]) == pytest.approx(sigma**2, rel=0.1)


def test_a_clip_of_one_frame_and_a_prompt_without_a_clip_are_handled():
    one_frame = Clip(NUMBERED.video[:1])
    for how in FRAME_DAMAGES:
        noise = make_noise("frames", rate=1.0, how=how, severity=5)
        assert noise.corrupt_clip(PROMPTS[0], one_frame).video.shape == one_frame.video.shape
        image_only = Clip(None, one_frame.video[0])
        assert noise.corrupt_clip(PROMPTS[0], image_only).video is None


def test_the_manifest_lists_the_damaged_videos_and_no_other_sample_changes(clean, clips):
    noise = make_noise("frames", rate=0.3, how="blur", severity=2)
    noisy, manifest = apply_noise(clean, noise)
    assert noisy == clean
    listed = {row["id"] for row in manifest}
    with_video = [prompt for prompt in clean if prompt.video]
    assert listed <= {prompt.id for prompt in with_video}
    assert len(listed) / len(with_video) == pytest.approx(0.3, abs=0.06)
    assert manifest[0]["frames"] == {"how": "blur", "severity": 2} and all(row["u"] < 0.3 for row in manifest)
    assert listed == {p.id for p in with_video if noise.corrupt_clip(p, NUMBERED) is not NUMBERED}
    higher_rate = {row["id"] for row in apply_noise(clean, make_noise("frames", rate=0.5))[1]}
    assert listed < higher_rate
    assert summarize_noise(noise, clean, manifest)["youden_j"] is None


def test_a_wrong_clip_is_the_video_of_another_sample(clean):
    assert not all(prompt.video for prompt in clean), "otherwise the test would prove less"
    noisy, manifest = apply_noise(clean, make_noise("wrong_clip", rate=0.3))
    replaced = {row["id"]: row["video"] for row in manifest}
    assert len(replaced) / sum(bool(p.video) for p in clean) == pytest.approx(0.3, abs=0.06)
    for before, after in zip(clean, noisy, strict=True):
        assert (before.video != after.video) == (before.id in replaced)
        assert (before.video is None) == (after.video is None), "without a video it stays without"
        assert (before.image, before.answer, before.options) == (after.image, after.answer, after.options)
    assert {change["noisy"] for change in replaced.values()} <= {p.video for p in clean} - {None}

    reversed_manifest = apply_noise(clean[::-1], make_noise("wrong_clip", rate=0.3))[1]
    assert reversed_manifest[::-1] == manifest
    higher_rate = {row["id"]: row["video"] for row in apply_noise(clean, make_noise("wrong_clip", rate=0.6))[1]}
    assert replaced.items() <= higher_rate.items()
    with pytest.raises(UserError, match="no training sample has another video than s0"):
        apply_noise(PROMPTS[:2], make_noise("wrong_clip", rate=1.0))


@pytest.mark.parametrize("how", ["drop", "replace"])
def test_each_narration_is_dropped_or_replaced_at_the_rate(clean, how):
    noisy, manifest = apply_noise(clean, make_noise("narrations", rate=0.25, how=how))
    pairs = list(zip(clean, noisy, strict=True))
    total = sum(len(prompt.narrations) for prompt in clean)
    if how == "drop":
        assert sum(len(prompt.narrations) for prompt in noisy) / total == pytest.approx(0.75, abs=0.03)
    else:
        changed = sum(
            old != new for before, after in pairs for old, new in zip(before.narrations, after.narrations, strict=True)
        )
        assert changed / total == pytest.approx(0.25, abs=0.03)
    assert [row["id"] for row in manifest] == [p.id for p, q in pairs if p.narrations != q.narrations]
    assert all(row["u"] < 0.25 and row["narrations"]["clean"] != row["narrations"]["noisy"] for row in manifest)
    higher_rate = {row["id"] for row in apply_noise(clean, make_noise("narrations", rate=0.5, how=how))[1]}
    assert {row["id"] for row in manifest} < higher_rate
    assert apply_noise(clean[::-1], make_noise("narrations", rate=0.25, how=how))[0][::-1] == noisy


def test_timed_narrations_change_with_the_others(clean):
    prompt = next(p for p in clean if len(p.narrations) > 1)
    noisy = {how: apply_noise(clean, make_noise("narrations", rate=0.5, how=how))[0] for how in ("drop", "replace")}
    for prompts in noisy.values():
        for prompt in prompts:
            assert [row["narration_text"] for row in prompt.meta["task_progress_metadata"]] == [*prompt.narrations]
    [gone] = apply_noise([prompt], make_noise("narrations", rate=1.0))[0]
    assert gone.narrations == () and gone.meta["task_progress_metadata"] == []
    assert prompt.meta["task_progress_metadata"]


@pytest.mark.parametrize("kind", EVIDENCE_NOISES)
def test_evaluation_data_is_refused(kitchen, kind):
    with pytest.raises(UserError, match="noise is for training data only"):
        apply_noise(load(kitchen, "L1"), make_noise(kind, rate=0.1))


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("frames", {"how": "blurr"}, "no way 'blurr' to damage frames. Did you mean 'blur'"),
        ("frames", {"severity": 6}, "severity must be 1 to 5, not 6"),
        ("frames", {"severity": 2.5}, "severity must be int, not 2.5"),
        ("frames", {"rate": 2.0}, "rate must be in"),
        ("wrong_clip", {"rate": -1.0}, "rate must be in"),
        ("wrong_clip", {"severity": 3}, "has no field 'severity'"),
        ("narrations", {"how": "swap"}, 'how must be "drop" or "replace"'),
        ("narrations", {"severity": 1}, "has no field 'severity'"),
    ],
)
def test_bad_fields_are_refused(kind, fields, message):
    with pytest.raises(UserError, match=message):
        make_noise(kind, **fields)
