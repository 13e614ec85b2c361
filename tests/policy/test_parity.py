"""The parity gate passes where nothing differs, and names each disagreement that is planted."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from rlvid.config import load
from rlvid.errors import UserError
from rlvid.policy import model as model_module
from rlvid.policy import parity
from rlvid.policy.encoding import chat_token_ids
from rlvid.policy.families import FAMILIES
from rlvid.policy.mrope import mrope_position_ids
from rlvid.policy.parity import compare, kind_of, probes, require_parity
from rlvid.policy.sampler import Sampler
from rlvid.video.read import Clock, Frames
from tests.helpers.policies import load_policy
from tests.helpers.tiny_models import write_tiny_model

TRAIN = load("nano").train


@pytest.fixture(scope="module", params=FAMILIES)
def model_folder(request, kitchen, tmp_path_factory):
    return write_tiny_model(request.param, tmp_path_factory.mktemp("tiny") / request.param)


@pytest.fixture
def policy(model_folder, tmp_path):
    """A policy with caches of its own: a test may damage them."""
    policy = load_policy(f"model={model_folder}", f'video.cache_dir="{tmp_path}"', "train.freeze_vision_tower=true")
    yield policy
    policy.frames.close()


def found(policy, prompts, train=TRAIN):
    """The comparisons that differ: name -> what differs."""
    return {check.name: check.difference for check in compare(policy, prompts, train) if check.difference}


def damage_frames(policy, prompt, change):
    """Change the cached frames of a prompt's video."""
    path = policy.frames._cache_path(prompt.id, prompt.video)
    frames = policy.frames._open(path)
    policy.frames._save(prompt.id, path, prompt.video, change(Frames(np.array(frames.pixels), frames.clock)))


def test_nothing_differs_and_every_kind_of_prompt_is_compared(policy, prompts):
    both, image = prompts[0], prompts[-1]
    shown = [replace(both, id="v", image=None), *prompts, replace(image, id="t", image=None)]
    chosen = probes([*shown, *shown])
    assert [kind_of(prompt) for prompt in chosen] == ["video", "video and image", "image", "text"]
    state = torch.get_rng_state()
    checks = list(compare(policy, chosen, TRAIN))
    assert len(checks) == 4 * 5 and not [check for check in checks if check.difference]
    assert torch.equal(torch.get_rng_state(), state)
    require_parity(policy, chosen, TRAIN)


def test_the_embedded_model_with_its_own_positions_passes(policy, prompts):
    assert not found(load_policy(), prompts[:1])


def test_vision_tokens_too_many_are_named(policy, prompts, monkeypatch):
    """As in transformers 5.10 and later: a start and an end around a whole video."""

    def with_outer_pair(tokenizer, text, media):
        ids = chat_token_ids(tokenizer, text, media)
        [start, end] = tokenizer.convert_tokens_to_ids(["<|vision_start|>", "<|vision_end|>"])
        first, last = ids.index(start), len(ids) - 1 - ids[::-1].index(end)
        return [*ids[:first], start, *ids[first : last + 1], end, *ids[last + 1 :]]

    monkeypatch.setattr(model_module, "chat_token_ids", with_outer_pair)
    assert "from token" in found(policy, prompts[:1])["token ids"]
    with pytest.raises(UserError, match=rf"sample {prompts[0].id} \(video and image\): token ids: from token") as error:
        require_parity(policy, prompts[:1], TRAIN)
    assert "\n" not in str(error.value)


def test_positions_that_restart_at_the_side_of_a_frame_are_named(policy, prompts, monkeypatch):
    if policy.model.config.model_type.startswith("qwen3_vl"):
        return  # its moments are never longer than a frame is wide
    monkeypatch.setattr(
        model_module, "mrope_position_ids", lambda kinds, segments, _: mrope_position_ids(kinds, segments, True)
    )
    assert found(policy, prompts[:1]).keys() == {"positions"}
    assert "'<|vision_end|>', is at [12, 12, 12]" in found(policy, prompts[:1])["positions"]


def test_steps_in_time_of_another_pace_are_named(policy, prompts, monkeypatch):
    if policy.model.config.model_type != "qwen2_5_vl":
        return
    segments = policy.family.video_segments
    monkeypatch.setattr(policy.family, "video_segments", lambda *args: [s._replace(pace=1.0) for s in segments(*args)])
    assert "is at" in found(policy, prompts[:1])["positions"]


def shuffled_clock(frames):
    return frames._replace(clock=Clock(frames.clock.times[::-1], frames.clock.sampled_fps))


def dropped_frames(frames):
    return Frames(frames.pixels[:-2], frames.clock._replace(times=frames.clock.times[:-2]))


def other_resize(frames):
    return frames._replace(pixels=np.roll(frames.pixels, 1, axis=1))


@pytest.mark.parametrize(
    ("change", "says"),
    [(shuffled_clock, "the times of the frames"), (dropped_frames, "(6, "), (other_resize, "frame 0 and 7 more")],
)
def test_wrong_frames_and_times_are_named(policy, prompts, change, says):
    policy.frames(prompts[0])
    damage_frames(policy, prompts[0], change)
    assert says in found(policy, prompts[:1])["frames"]


def test_stale_features_are_named(policy, prompts):
    """Valid files of another tower, under the name of this one."""
    inputs = policy.encode(prompts[0])
    policy.embed([inputs])
    cache = policy.vision_cache
    for media in inputs.media:
        cache._write(media.path, media.features.roll(1, 0))
    assert found(policy, prompts[:1]).keys() == {"features"}


def test_a_sampler_with_stale_weights_is_named(policy, prompts, monkeypatch):
    stale = deepcopy(policy.model)
    with torch.no_grad():
        for weight in policy.model.model.language_model.parameters():
            weight.mul_(1.05)

    class StaleSampler(Sampler):
        def __call__(self, *args):
            fresh, self.policy.model = self.policy.model, stale
            try:
                return super().__call__(*args)
            finally:
                self.policy.model = fresh

    monkeypatch.setattr(parity, "make_sampler", StaleSampler)
    assert found(policy, prompts[:1]).keys() == {"sampler"}
    [after_step] = compare(policy, prompts[:1], TRAIN, after_step=True)
    assert after_step.name == "sampler" and after_step.difference
    assert "nats a token, more than 0.001" in found(policy, prompts[:1])["sampler"]
