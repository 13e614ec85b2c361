"""Prefetching: the same bits, one step ahead and no more, and errors at the step that they belong to."""

import threading
from dataclasses import fields, replace

import pytest
import torch
from accelerate import Accelerator

from rlvid.config import VideoConfig, load
from rlvid.errors import UserError
from rlvid.trainer.counters import Counters
from rlvid.trainer.prefetch import PromptPrefetcher
from rlvid.trainer.run_folder import RunFolder
from rlvid.trainer.timer import StepTimer
from rlvid.types import Prompt
from rlvid.video.views import apply_view
from tests.helpers.policies import load_policy


@pytest.fixture
def folder(tmp_path):
    """A run's folder that skips unreadable clips."""
    return RunFolder(tmp_path, load("nano", ['video.on_bad_video="skip"']), Accelerator(), StepTimer())


@pytest.fixture
def counters():
    return Counters()


@pytest.fixture
def prefetcher(folder, counters):
    """A function: policy, plan and what alters clips -> a prefetcher of the run."""

    def make(policy, plan=(), alter_clip=lambda prompt, clip: clip):
        return PromptPrefetcher(policy, plan, folder.on_bad_clip(counters), alter_clip, folder.timer)

    return make


@pytest.fixture
def bad(tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    return Prompt("bad", "?", video=str(tmp_path / "bad.mp4"))


def equal(one, other):
    """Whether two prompts' inputs are equal, to the bit."""

    def tensors(inputs):
        values = {f.name: getattr(inputs, f.name) for f in fields(inputs)}
        clock, _ = values.pop("clock"), values.pop("patches")
        return [*values.values(), inputs.pixel_values, *(clock or ())]

    pairs = zip(tensors(one), tensors(other), strict=True)
    return all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs)


def test_prefetched_inputs_equal_inputs_made_on_request(prefetcher, policy, prompts):
    threads = []

    def reverse(prompt, clip):
        threads.append(threading.current_thread().name)
        return apply_view("reversed", clip, prompt.id)

    plan = [prompts[:3], prompts[3:]]
    ahead, plain = prefetcher(policy, plan, reverse), prefetcher(policy, (), reverse)
    for step in plan:
        indices, readable, inputs = ahead(step)
        assert indices == list(range(len(step))) and readable == step
    assert threads == ["prefetch_0"] * len(prompts)
    for mine, theirs in zip(inputs, plain(prompts[3:])[2], strict=True):
        assert equal(mine, theirs)
    assert set(threads[len(prompts) :]) == {"MainThread"}


def test_the_thread_works_on_the_cpu_and_the_step_begins_on_the_device(prefetcher, prompts, monkeypatch):
    """The device "meta" stands in for a GPU."""
    policy = load_policy()
    monkeypatch.setattr(type(policy), "device", torch.device("meta"))
    prefetch = prefetcher(policy, [prompts[:2]])
    prepared = [inputs for _, _, inputs in prefetch.future.result()]
    _, _, inputs = prefetch(prefetch.upcoming)

    def devices(rows):
        return {value.device.type for row in rows for value in vars(row).values() if torch.is_tensor(value)}

    assert devices(prepared) == {"cpu"} and devices(inputs) == {"meta"}


def test_only_one_step_is_prefetched(prefetcher, policy, prompts):
    begun = []
    plan = (begun.append(i) or prompts[i : i + 1] for i in range(5))
    steps = [prompts[i : i + 1] for i in range(5)]
    prefetch = prefetcher(policy, plan)
    assert begun == [0]
    prefetch(prefetch.upcoming)
    assert begun == [0, 1]
    prefetch(steps[4])  # such as another round of the same step: not as planned
    assert begun == [0, 1] and prefetch.upcoming == prompts[1:2]


def test_an_unreadable_clip_is_counted_at_its_step(prefetcher, folder, counters, policy, prompts, bad):
    plan = [prompts[:1], [bad, prompts[1]], prompts[2:3]]
    prefetch = prefetcher(policy, plan)
    prefetch(plan[0])
    prefetch.future.result()  # by now the thread has seen the clip
    assert counters.skipped == {}
    indices, readable, inputs = prefetch(plan[1])
    assert indices == [1] and readable == [prompts[1]] and len(inputs) == 1
    assert list(counters.skipped) == ["train/bad"] and (folder.path / "skipped.jsonl").read_text().count("\n") == 1


def test_an_error_is_raised_at_its_step(prefetcher, folder, policy, prompts, bad):
    folder.config = replace(folder.config, video=VideoConfig(on_bad_video="error"))
    reserved = replace(prompts[1], id="r", question="What is <|image_pad|>?")
    plan = [prompts[:1], [bad], prompts[1:2], [reserved]]
    prefetch = prefetcher(policy, plan)
    assert prefetch(plan[0])[1] == prompts[:1]
    with pytest.raises(UserError, match=r"sample bad: .*rlvid data check finds all such clips"):
        prefetch(plan[1])
    assert prefetch(plan[2])[1] == prompts[1:2]
    with pytest.raises(UserError, match="sample r: its text contains a reserved vision token"):
        prefetch(plan[3])


def test_views_may_be_encoded_meanwhile(prefetcher, prompts):
    policy = load_policy()
    plan = [prompts] * 6
    alone = [policy.encode(p) for p in prompts]
    blank = [policy.encode(p, apply_view("blank", policy.frames(p), p.id)) for p in prompts]
    policy.frames.hits = 0
    prefetch = prefetcher(policy, plan)
    for step in plan:
        inputs = prefetch(step)[2]
        others = [policy.encode(p, apply_view("blank", policy.frames(p), p.id)) for p in prompts]
        assert all(map(equal, inputs, alone)) and all(map(equal, others, blank))
    assert policy.frames.hits == 12 * sum(p.video is not None for p in prompts)
