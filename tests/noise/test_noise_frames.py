"""Damaged videos, wrong videos, bad narrations: on the embedded benchmark's own clips."""

from itertools import pairwise

import numpy as np
import pytest

from rlvid.config import NoiseConfig, VideoConfig
from rlvid.data.seed_bench_r1 import load
from rlvid.errors import UserError
from rlvid.noise import apply
from rlvid.noise.frames import EVIDENCE, HOW
from rlvid.types import Prompt
from rlvid.video.cache import FrameCache
from rlvid.video.views import MEAN_GREY, Clip


def kind(name, seed=0, **fields):
    return apply.build_noise(NoiseConfig(name, seed, fields))


@pytest.fixture(scope="module")
def clean(kitchen):
    return load(kitchen, "train")


@pytest.fixture(scope="module")
def clips(clean):
    """A few training prompts with their clips."""
    frames = FrameCache(VideoConfig())
    pairs = [(prompt, frames(prompt)) for prompt in [p for p in clean if p.video][:6]]
    frames.close()
    return pairs


def gone(before, after):
    """Which frames are not what they were."""
    return {i for i in range(len(before)) if (before[i] != after[i]).any()}


def test_every_kind_is_tried_here():
    assert EVIDENCE.keys() == {"frames", "wrong_clip", "narrations"}


@pytest.mark.parametrize("how", HOW)
def test_worse_damage_keeps_the_shape_and_hits_the_same_frames_and_more(clips, how):
    for prompt, clip in clips:
        kept = clip.video.copy()
        seen = [kind("frames", rate=1.0, how=how, severity=s).corrupt_clip(prompt, clip) for s in (1, 2, 3, 4, 5)]
        assert all(s.video.shape == kept.shape and s.video.dtype == np.uint8 and s.image is clip.image for s in seen)
        assert (clip.video == kept).all()  # the cache's frames are not written to
        sets = [gone(kept, s.video) for s in seen]
        if how in ("drop", "blur"):
            assert all(a <= b for a, b in pairwise(sets)) and sets[0]
            damage = [np.abs(kept.astype(float) - s.video).mean() for s in seen]
            assert damage == sorted(damage) and damage[0] < damage[-1]
        again = kind("frames", rate=1.0, how=how, severity=3).corrupt_clip(prompt, clip)
        assert (again.video == seen[2].video).all()


NUMBERED = Clip(np.stack([np.full((8, 8, 3), i + 1, np.uint8) for i in range(20)]))  # every frame its own
SAMPLES = [Prompt(f"s{i}", "?", video="v.mp4") for i in range(40)]


def numbers(prompt, **fields):
    """The frames' numbers after damage; 0 is grey."""
    video = kind("frames", rate=1.0, **fields).corrupt_clip(prompt, NUMBERED).video
    return [0 if tuple(frame[0, 0]) == MEAN_GREY else int(frame[0, 0, 0]) for frame in video]


def test_dropped_frames_are_grey_and_as_many_as_the_severity_says():
    for prompt in SAMPLES:
        counts = [numbers(prompt, how="drop", severity=s).count(0) for s in (1, 2, 3, 4, 5)]
        assert counts == [2, 4, 6, 9, 12]
    assert numbers(SAMPLES[0], how="drop") != numbers(SAMPLES[1], how="drop")


def test_shuffled_frames_are_all_there_and_so_many_have_moved():
    for prompt in SAMPLES:
        rows = [numbers(prompt, how="shuffle", severity=s) for s in (1, 2, 3, 4, 5)]
        assert all(sorted(row) == list(range(1, 21)) for row in rows)
        moved = [{i for i, n in enumerate(row) if n != i + 1} for row in rows]
        assert [len(m) for m in moved] == [2, 4, 6, 9, 12]
        assert all(a < b for a, b in pairwise(moved))


def test_a_frozen_stretch_shows_its_first_frame_and_then_goes_on():
    for prompt in SAMPLES:
        rows = [numbers(prompt, how="freeze", severity=s) for s in (1, 2, 3, 4, 5)]
        for row, count in zip(rows, (2, 4, 6, 9, 12), strict=True):
            wrong = [i for i, n in enumerate(row) if n != i + 1]
            assert wrong == list(range(wrong[0], wrong[0] + count)) and {row[i] for i in wrong} == {wrong[0]}


def test_a_short_clip_and_no_clip_are_no_trouble():
    one = Clip(NUMBERED.video[:1])
    for how in HOW:
        assert (
            kind("frames", rate=1.0, how=how, severity=5).corrupt_clip(SAMPLES[0], one).video.shape == one.video.shape
        )
        assert kind("frames", rate=1.0, how=how).corrupt_clip(SAMPLES[0], Clip(None, one.video[0])).video is None


def test_the_manifest_names_the_damaged_and_nobody_else_is_touched(clean, clips):
    source = kind("frames", rate=0.3, how="blur", severity=2)
    noisy, manifest = apply.apply_noise(clean, source)
    assert noisy == clean
    listed = {row["id"] for row in manifest}
    videos = [p for p in clean if p.video]
    assert listed <= {p.id for p in videos} and len(listed) / len(videos) == pytest.approx(0.3, abs=0.06)
    assert manifest[0]["frames"] == {"how": "blur", "severity": 2} and all(row["u"] < 0.3 for row in manifest)
    assert listed == {p.id for p in videos if source.corrupt_clip(p, NUMBERED) is not NUMBERED}
    assert listed < {row["id"] for row in apply.apply_noise(clean, kind("frames", rate=0.5))[1]}  # nested
    assert apply.realised_rates(source, clean, manifest)["youden_j"] is None


def test_a_wrong_clip_is_another_samples(clean):
    noisy, manifest = apply.apply_noise(clean, kind("wrong_clip", rate=0.3))
    swapped = {row["id"]: row["video"] for row in manifest}
    assert len(swapped) / sum(bool(p.video) for p in clean) == pytest.approx(0.3, abs=0.06)
    for before, after in zip(clean, noisy, strict=True):
        assert (before.video != after.video) == (before.id in swapped)
        assert (before.image, before.answer, before.options) == (after.image, after.answer, after.options)
    assert {pair["noisy"] for pair in swapped.values()} <= {p.video for p in clean} - {None}
    back = apply.apply_noise(clean[::-1], kind("wrong_clip", rate=0.3))[1]
    assert back[::-1] == manifest
    assert (
        swapped.items()
        <= {r["id"]: r["video"] for r in apply.apply_noise(clean, kind("wrong_clip", rate=0.6))[1]}.items()
    )
    with pytest.raises(UserError, match="no training sample has another video than s0"):
        apply.apply_noise(SAMPLES[:2], kind("wrong_clip", rate=1.0))


@pytest.mark.parametrize("how", ["drop", "replace"])
def test_narrations_go_or_change_at_their_own_rate(clean, how):
    noisy, manifest = apply.apply_noise(clean, kind("narrations", rate=0.25, how=how))
    total = sum(len(p.narrations) for p in clean)
    if how == "drop":
        assert sum(len(p.narrations) for p in noisy) / total == pytest.approx(0.75, abs=0.03)
    else:
        pairs = [
            (a, b) for p, q in zip(clean, noisy, strict=True) for a, b in zip(p.narrations, q.narrations, strict=True)
        ]
        assert sum(a != b for a, b in pairs) / total == pytest.approx(0.25, abs=0.03)
    assert [row["id"] for row in manifest] == [
        p.id for p, q in zip(clean, noisy, strict=True) if p.narrations != q.narrations
    ]
    assert all(row["u"] < 0.25 and row["narrations"]["clean"] != row["narrations"]["noisy"] for row in manifest)
    more = {row["id"] for row in apply.apply_noise(clean, kind("narrations", rate=0.5, how=how))[1]}
    assert {row["id"] for row in manifest} < more
    assert apply.apply_noise(clean[::-1], kind("narrations", rate=0.25, how=how))[0][::-1] == noisy


@pytest.mark.parametrize("name", EVIDENCE)
def test_evaluation_data_is_refused(kitchen, name):
    with pytest.raises(UserError, match="noise is for training data only"):
        apply.apply_noise(load(kitchen, "L1"), kind(name, rate=0.1))


@pytest.mark.parametrize(
    ("name", "fields", "says"),
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
def test_bad_fields_are_refused(name, fields, says):
    with pytest.raises(UserError, match=says):
        kind(name, **fields)
