"""The frame cache with real clips, real decoding processes and several runs at once."""

import multiprocessing
import os
import resource
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rlvid.config import VideoConfig
from rlvid.errors import UserError
from rlvid.types import Prompt
from rlvid.video.cache import FrameCache
from rlvid.video.read import BadVideo, read_with_decord
from rlvid.video.resize import resize
from rlvid.video.store import Store
from tests.helpers import media

SMALL = {"resized_height": 56, "resized_width": 56}


@pytest.fixture
def prompts(tmp_path):
    """Three prompts with distinct clips, the first also with an image."""
    Image.new("RGB", (6, 4), (1, 2, 3)).save(tmp_path / "now.png")
    images = [str(tmp_path / "now.png"), None, None]
    clips = [media.write_video(tmp_path / f"{i}.mp4", media.grey_frames(8 + 4 * i, step=4)) for i in range(3)]
    return [Prompt(f"s{i}", "?", video=str(clips[i]), image=images[i]) for i in range(3)]


@pytest.fixture
def frames(tmp_path):
    frames = FrameCache(VideoConfig(cache_dir=str(tmp_path / "cache"), **SMALL))
    yield frames
    frames.close()


def cache_files(frames):
    return sorted(frames.store.folder.glob("*"))


def test_a_second_epoch_decodes_nothing(frames, prompts):
    first = [frames(p) for p in prompts]
    assert (frames.misses, frames.hits) == (3, 0) and len(cache_files(frames)) == 3
    workers = frames.decoder.workers_started
    frames.close()
    second = [frames(p) for p in prompts]
    assert (frames.misses, frames.hits) == (3, 3) and frames.decoder.workers_started == workers
    for decoded, cached in zip(first, second, strict=True):
        np.testing.assert_array_equal(decoded.video, cached.video)
        assert decoded.clock.times.tolist() == cached.clock.times.tolist()
        assert decoded.clock.sampled_fps == cached.clock.sampled_fps
        assert isinstance(cached.video, np.memmap)
    assert second[0].image.shape == (56, 56, 3) and second[0].image[0, 0].tolist() == [1, 2, 3]

    another_run = FrameCache(frames.video)
    np.testing.assert_array_equal(another_run(prompts[2]).video, first[2].video)
    assert (another_run.misses, another_run.hits, another_run.decoder.workers_started) == (0, 1, 0)


def test_the_largest_cached_video_is_known(frames, prompts):
    dense = FrameCache(replace(frames.video, fps=8.0))
    assert dense.largest(prompts) == []
    dense.warm(prompts)
    dense.close()
    assert dense.largest([prompts[1], prompts[2], prompts[0]]) == [prompts[2]], "it has the most frames"


def test_the_cache_holds_the_resized_frames(frames, prompts):
    raw = read_with_decord(prompts[0].video, frames.video).pixels
    assert raw.shape == (4, 64, 64, 3)
    np.testing.assert_array_equal(frames(prompts[0]).video, resize(raw, frames.video))


def test_a_file_that_cannot_be_resized_is_an_error_of_its_sample(tmp_path):
    frames = FrameCache(VideoConfig(cache_dir=str(tmp_path / "cache"), resized_height=None))
    clip = media.write_video(tmp_path / "strip.mp4", media.grey_frames(8, 16, 3400))
    Image.new("RGB", (3000, 10)).save(tmp_path / "strip.png")
    video, image = Prompt("s1", "?", video=str(clip)), Prompt("s2", "?", image=str(tmp_path / "strip.png"))
    for prompt, size in ((video, "3400x16"), (image, "3000x10")):
        with pytest.raises(BadVideo, match=f"sample {prompt.id}: .*: {size} pixels: more than 200 times"):
            frames(prompt)
    assert frames.failures == 2
    frames.close()


def test_a_prompt_without_video_or_image_has_none(frames, prompts):
    assert frames(Prompt("s", "?")).video is None
    assert frames(prompts[1]).image is None


def test_other_settings_and_other_content_have_their_own_cache_files(frames, prompts, tmp_path):
    before = frames(prompts[2]).video
    denser = FrameCache(VideoConfig(cache_dir=frames.video.cache_dir, fps=4.0, **SMALL))
    assert len(denser(prompts[2]).video) == 8 > len(before)
    media.write_video(tmp_path / "2.mp4", media.grey_frames(16, step=9))
    assert (frames(prompts[2]).video[-1] > before[-1]).all()
    assert len(cache_files(frames)) == 3


def test_warm_decodes_what_is_not_cached_and_returns_the_failures(frames, prompts, tmp_path):
    (tmp_path / "text.mp4").write_text("no video" * 100)
    text, missing = str(tmp_path / "text.mp4"), str(tmp_path / "missing.png")
    bad = [Prompt("t", "?", video=text), Prompt("u", "?", video=text), Prompt("m", "?", image=missing)]
    frames(prompts[0])
    failures = frames.warm([*prompts, *bad], progress=True)
    assert [(f.sample, f.path) for f in failures] == [("t", text), ("u", text), ("m", missing)]
    assert (frames.misses, frames.failures) == (3, 2)
    frames.close()
    workers = frames.decoder.workers_started
    assert frames.warm(prompts) == []
    for prompt in prompts:
        frames(prompt)
    for prompt in bad:  # a known failure is not tried again
        with pytest.raises(BadVideo, match=f"sample {prompt.id}: "):
            frames(prompt)
    assert (frames.misses, frames.failures, frames.decoder.workers_started) == (3, 2, workers)


def test_a_video_that_changes_or_vanishes_while_it_is_decoded_is_not_cached(frames, prompts, tmp_path, monkeypatch):
    decode = frames.decoder.decode

    def decode_and_change(clips):
        for path, result in decode(clips):
            if path.endswith("0.mp4"):
                media.write_video(tmp_path / "0.mp4", media.grey_frames(12, step=9))
            if path.endswith("1.mp4"):
                Path(path).unlink()
            yield path, result

    monkeypatch.setattr(frames.decoder, "decode", decode_and_change)
    assert frames.warm(prompts) == [] and len(cache_files(frames)) == 1
    monkeypatch.undo()
    assert frames(prompts[0]).video[-1].mean() > 80  # 11 * 9, where the old clip ends at 7 * 4


def test_no_decoder_starts_for_a_path_without_a_file(frames, tmp_path):
    (tmp_path / "empty.mp4").touch()
    for path, reason in {
        tmp_path / "empty.mp4": "is empty",
        tmp_path / "missing.mp4": "no such file",
        tmp_path: "is a directory",
    }.items():
        with pytest.raises(BadVideo) as error:
            frames(Prompt("s9", "?", video=str(path)))
        assert str(error.value).startswith(f"sample s9: {path}: {reason}")
    assert frames.decoder.workers_started == 0 and frames.failures == 3


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "other"])
def test_a_damaged_cache_file_is_rebuilt_and_counted(frames, prompts, damage):
    before = np.array(frames(prompts[0]).video)
    [file] = cache_files(frames)
    if damage == "other":
        with file.open("wb") as other:
            np.save(other, np.zeros((2, 3)))
    else:
        data = file.read_bytes()
        file.write_bytes({"cut": data[:-1], "header": b"x" * len(data), "empty": b""}[damage])
    np.testing.assert_array_equal(frames(prompts[0]).video, before)
    assert (frames.rebuilt, frames.misses, frames.hits) == (1, 2, 0)
    frames(prompts[0])
    assert (frames.rebuilt, frames.hits) == (1, 1)


def test_the_least_recently_used_files_are_evicted_and_open_frames_stay_readable(tmp_path, prompts):
    size = 4 * 56 * 56 * 3  # bytes of a clip of 4 frames
    frames = FrameCache(
        VideoConfig(cache_dir=str(tmp_path / "small"), cache_gb=2.5 * size / 1e9, max_frames=4, **SMALL)
    )
    kept = [frames(prompts[0]).video, frames(prompts[1]).video]
    for age, file in enumerate(sorted(cache_files(frames), key=lambda f: f.stat().st_mtime_ns)):
        os.utime(file, (1000 + age, 1000 + age))
    opened = frames(prompts[0]).video  # used again: now the second file is the oldest
    frames(prompts[2])
    assert len(cache_files(frames)) == 2
    assert frames(prompts[0]).video is not None and frames.misses == 3
    for file in cache_files(frames):
        file.unlink()
    np.testing.assert_array_equal(opened, kept[0])
    frames(prompts[1])
    assert frames.misses == 4
    frames.close()


def test_a_full_cache_is_not_scanned_at_every_write(tmp_path, monkeypatch):
    """It has room for 1,000 files, and after an eviction for 100 more: half of the free space is filled per scan."""
    store, scans = Store(VideoConfig(cache_dir=str(tmp_path), cache_gb=1e-5), "frame"), []
    for number in range(1000):
        store.write(store.path_for(number), 10, lambda file: file.write(b"0123456789"))
    assert len(list(store.folder.iterdir())) == 1000
    monkeypatch.setattr(os, "scandir", lambda folder, scan=os.scandir: (scans.append(folder), scan(folder))[1])
    for number in range(1000, 1200):
        store.write(store.path_for(number), 10, lambda file: file.write(b"0123456789"))
    assert len(scans) < 40
    assert 900 <= len(list(store.folder.iterdir())) <= 1000


def test_a_cache_that_is_too_small_for_all_clips_is_a_warning_that_names_the_needed_size(tmp_path, prompts):
    def warning(cache_gb):
        video = VideoConfig(cache_dir=str(tmp_path), cache_gb=cache_gb, max_frames=4, **SMALL)
        return FrameCache(video).size_warning([*prompts, *prompts])

    needed = 3 * 4 * 56 * 56 * 3 / 1e9  # three clips of four frames
    assert warning(1.01 * needed) is None
    assert "3 clips take up to 0.000113 GB" in warning(0.99 * needed) and "set video.cache_gb=1" in warning(0)


def test_the_unfinished_file_of_a_killed_run_is_deleted(tmp_path, prompts):
    frames = FrameCache(VideoConfig(cache_dir=str(tmp_path / "cache"), cache_gb=1e-5, **SMALL))
    old, young = frames.store.folder / "a.1.part", frames.store.folder / "b.2.part"
    for part in (old, young):
        part.write_bytes(b"x" * 20_000)
    os.utime(old, (0, 0))
    frames(prompts[0])
    assert not old.exists() and young.exists()
    frames.close()


def test_a_run_whose_clock_is_ahead_may_delete_an_unfinished_file_and_no_run_fails(frames, prompts, monkeypatch):
    """The other run evicts while the first file is half written, two hours later by its clock."""
    other = Store(VideoConfig(cache_dir=str(frames.store.folder.parent), cache_gb=0.0), "frame")
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 7200)
    write = partial(frames.store.write, frames.store.path_for("a"), 1)
    write(lambda file: (file.write(b"x"), file.flush(), other._evict()))
    assert not cache_files(frames)
    write(lambda file: file.write(b"x"))
    assert len(cache_files(frames)) == 1


def test_a_cache_that_cannot_be_written_is_a_user_error(frames, prompts, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"frame cache .*file/frames: Not a directory; .*set video.cache_dir"):
        FrameCache(VideoConfig(cache_dir=str(tmp_path / "file")))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (1000, limits[1])
    )  # as on a full disk, only the start of a file can be written
    try:
        with pytest.raises(UserError, match=r"frame cache .* written; free disk space"):
            frames(prompts[0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert cache_files(frames) == []
    assert frames(prompts[0]).video is not None


def test_the_cache_folder_comes_from_the_config_or_else_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("RLVID_CACHE", str(tmp_path / "elsewhere"))
    assert FrameCache(VideoConfig()).store.folder == tmp_path / "elsewhere" / "frames"
    assert FrameCache(VideoConfig(cache_dir=str(tmp_path / "here"))).store.folder == tmp_path / "here" / "frames"


def read_all(video, prompts, rounds, results):
    """One of several runs that share a cache; puts (sample id, level of the last frame) into `results`."""
    frames = FrameCache(video)
    for _ in range(rounds):
        for prompt in prompts:
            results.put((prompt.id, int(frames(prompt).video[-1, 0, 0, 0])))
    frames.close()


def test_several_runs_share_a_cache_that_is_too_small(tmp_path, prompts):
    video = VideoConfig(cache_dir=str(tmp_path / "shared"), cache_gb=5e-5, **SMALL, decode_workers=1)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    runs = [context.Process(target=read_all, args=(video, prompts, 5, results)) for _ in range(3)]
    for run in runs:
        run.start()
    levels = [results.get(timeout=60) for _ in range(3 * 5 * len(prompts))]
    for run in runs:
        run.join()
        assert run.exitcode == 0
    expected = {f"s{i}": 4 * (7 + 4 * i) for i in range(3)}  # 8 + 4 i frames in steps of 4
    assert all(abs(level - expected[sample]) <= 3 for sample, level in levels)
    assert not list((tmp_path / "shared" / "frames").glob("*.part"))
