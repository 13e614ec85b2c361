"""Reading ahead: the same bits, one step and no more, and errors at the step that they belong to."""

import threading
from dataclasses import fields, replace

import pytest
import torch
from accelerate import Accelerator

from rlvid.config import VideoConfig, load
from rlvid.errors import UserError
from rlvid.policy.model import Policy
from rlvid.trainer.prefetch import PromptPrefetcher
from rlvid.trainer.run_folder import Run
from rlvid.types import Prompt
from rlvid.video.read import BadVideo
from rlvid.video.views import apply_view


@pytest.fixture
def run(tmp_path):
    config = load("nano", ['video.on_bad_video="skip"'])
    return Run(tmp_path, config, Accelerator())


@pytest.fixture
def bad(tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    return Prompt("bad", "?", video=str(tmp_path / "bad.mp4"))


def equal(one, other):
    return all(
        torch.equal(torch.as_tensor(getattr(one, f.name)), torch.as_tensor(getattr(other, f.name))) for f in fields(one)
    )


def test_what_was_read_ahead_is_what_is_read_when_asked_for(run, policy, prompts):
    where = []

    def see(prompt, clip):
        where.append(threading.current_thread().name)
        return apply_view("reversed", clip, prompt.id)

    plan = [prompts[:3], prompts[3:]]
    ahead, plain = PromptPrefetcher(run, policy, plan, see), PromptPrefetcher(run, policy, (), see)
    for step in plan:
        places, asked, encoded = ahead(step)
        assert places == list(range(len(step))) and asked == step
    assert where == ["reader_0"] * len(prompts)
    for mine, theirs in zip(encoded, plain(prompts[3:])[2], strict=True):
        assert equal(mine, theirs)
    assert set(where[len(prompts) :]) == {"MainThread"}


def test_no_more_than_one_step_is_read_ahead(run, policy, prompts):
    begun = []
    plan = (begun.append(i) or prompts[i : i + 1] for i in range(5))
    steps = [prompts[i : i + 1] for i in range(5)]
    read = PromptPrefetcher(run, policy, plan)
    assert begun == [0]
    read(read.coming)
    assert begun == [0, 1]
    read(steps[4])  # another round of the same step, say: not as planned
    assert begun == [0, 1] and read.coming == prompts[1:2]


def test_a_clip_that_cannot_be_read_is_counted_at_its_step(run, policy, prompts, bad):
    plan = [prompts[:1], [bad, prompts[1]], prompts[2:3]]
    read = PromptPrefetcher(run, policy, plan)
    read(plan[0])
    read.future.result()  # by now the thread has met it
    assert run.skipped == {}
    places, asked, encoded = read(plan[1])
    assert places == [1] and asked == [prompts[1]] and len(encoded) == 1
    assert list(run.skipped) == ["bad"] and (run.folder / "skipped.jsonl").read_text().count("\n") == 1


def test_an_error_is_raised_at_its_step(run, policy, prompts, bad):
    run.config = replace(run.config, video=VideoConfig(on_bad_video="error"))
    reserved = replace(prompts[1], id="r", question="What is <|image_pad|>?")
    plan = [prompts[:1], [bad], prompts[1:2], [reserved]]
    read = PromptPrefetcher(run, policy, plan)
    assert read(plan[0])[1] == prompts[:1]
    with pytest.raises(BadVideo, match="sample bad: "):
        read(plan[1])
    assert read(plan[2])[1] == prompts[1:2]
    with pytest.raises(UserError, match="sample r: its text contains a reserved vision token"):
        read(plan[3])


def test_views_may_be_read_meanwhile(run, prompts):
    policy = Policy.load(load("nano"))
    plan = [prompts] * 6
    alone = [policy.encode(p) for p in prompts]
    blank = [policy.encode(p, apply_view("blank", policy.frames(p), p.id)) for p in prompts]
    policy.frames.hits = 0
    read = PromptPrefetcher(run, policy, plan)
    for step in plan:
        encoded = read(step)[2]
        others = [policy.encode(p, apply_view("blank", policy.frames(p), p.id)) for p in prompts]
        assert all(map(equal, encoded, alone)) and all(map(equal, others, blank))
    assert policy.frames.hits == 12 * sum(p.video is not None for p in prompts)
