"""Cached features of a frozen vision tower: equal bits, what shares a file, damage, and the size limit."""

import os
from dataclasses import replace

import pytest
import torch
from transformers import Qwen2VLModel

from rlvid import api
from rlvid.errors import UserError
from rlvid.policy import encoding
from rlvid.policy.vision_cache import DIGEST_BYTES, VisionFeatureCache, hash_of_tower, vision_tower
from rlvid.video.views import apply_view
from tests.helpers.policies import load_policy

FROZEN = "train.freeze_vision_tower=true"
HIDDEN_SIZE = 192  # of nano
VIDEO_TOKENS, IMAGE_TOKENS = 16, 4  # of a video of eight frames of 56 x 56 pixels, and of an image


@pytest.fixture
def tower_calls(monkeypatch):
    """The number of videos and images in each call of the vision tower."""
    calls, get_image_features = [], Qwen2VLModel.get_image_features

    def counting(self, patches, grids, **options):
        calls.append(len(grids))
        return get_image_features(self, patches, grids, **options)

    monkeypatch.setattr(Qwen2VLModel, "get_image_features", counting)
    return calls


@pytest.fixture
def patches_made(monkeypatch):
    """The number of patches of each video or image that is cut into patches."""
    made, cut = [], encoding.patchify

    def counting(*args):
        patches, grid = cut(*args)
        made.append(len(patches))
        return patches, grid

    monkeypatch.setattr(encoding, "patchify", counting)
    return made


@pytest.fixture
def new_cache(tmp_path):
    """Make a feature cache of a policy's tower, in a folder of this test."""

    def make(policy):
        video = replace(policy.frames.video, cache_dir=str(tmp_path / "cache"))
        return VisionFeatureCache(policy.model, video, policy.bf16)

    return make


@pytest.fixture
def new_policy(new_cache):
    """Make policies with a frozen tower that share that folder."""

    def make(*overrides):
        policy = load_policy(FROZEN, *overrides)
        policy.vision_cache = new_cache(policy)
        return policy

    return make


def count_media(prompts):
    return sum((prompt.video is not None) + (prompt.image is not None) for prompt in prompts)


def embed(policy, prompts):
    """The input embeddings of all prompts."""
    with torch.no_grad(), policy.precision():
        return torch.cat(policy.embed([policy.encode(prompt) for prompt in prompts]).tokens)


@pytest.mark.parametrize(("dtype", "bytes_per_value"), [("float32", 4), ("bfloat16", 2)])
def test_computed_and_cached_features_are_the_same_bits(new_policy, prompts, tower_calls, dtype, bytes_per_value):
    first = new_policy(f"train.dtype={dtype}")
    computed = embed(first, prompts)
    assert tower_calls == [1] * count_media(prompts) == [1] * first.vision_cache.misses
    sizes = {path.stat().st_size for path in first.vision_cache.store.folder.iterdir()}
    assert sizes == {DIGEST_BYTES + n * HIDDEN_SIZE * bytes_per_value for n in (VIDEO_TOKENS, IMAGE_TOKENS)}

    second = new_policy(f"train.dtype={dtype}")
    assert torch.equal(embed(second, prompts), computed) and second.vision_cache.hits == count_media(prompts)
    last_three = prompts[::-1][:3]
    assert torch.equal(embed(first, last_three), embed(new_policy(f"train.dtype={dtype}"), last_three))
    assert len(tower_calls) == count_media(prompts), "the tower encodes nothing twice"


def test_they_equal_the_features_of_all_media_in_one_batch(new_policy, policy, prompts):
    assert policy.vision_cache is None, "a trained tower has no cache"
    torch.testing.assert_close(embed(new_policy(), prompts), embed(policy, prompts), rtol=1e-5, atol=1e-5)


def test_the_inputs_of_a_step_are_encoded_once(new_policy, prompts, tower_calls):
    policy = new_policy()
    inputs = [policy.encode(prompt) for prompt in prompts]
    for _ in range(3):
        policy.embed(inputs)
    assert len(tower_calls) == count_media(prompts)


def test_patches_are_made_only_where_features_are_not_cached(new_policy, prompts, patches_made):
    """Of a video of eight frames there are 64 patches, of an image 16: four for each visual token."""
    expected = [4 * VIDEO_TOKENS, 4 * IMAGE_TOKENS]
    computed = embed(new_policy(), prompts[:1])
    assert patches_made == expected
    policy = new_policy()
    inputs = policy.encode(prompts[0]).to(policy.device)
    with torch.no_grad():
        assert torch.equal(torch.cat(policy.embed([inputs]).tokens), computed)
    assert (policy.vision_cache.hits, policy.vision_cache.misses) == (2, 0) and patches_made == expected
    reversed_clip = apply_view("reversed", policy.frames(prompts[0]), prompts[0].id)
    policy.embed([policy.encode(prompts[0], reversed_clip)])
    assert patches_made == [*expected, 4 * VIDEO_TOKENS], "of the video only: the image is the same"
    unfrozen = load_policy().encode(prompts[0])
    assert patches_made[3:] == expected, "a trained tower reads them at once"
    assert torch.equal(inputs.pixel_values, unfrozen.pixel_values), "what reads them anyway gets them"
    assert torch.equal(torch.cat([inputs.patches[0], inputs.patches[1]]), inputs.pixel_values)
    assert patches_made[5:] == expected


def test_a_model_with_another_tower_reads_patches_of_cached_clips(new_policy, prompts, patches_made):
    embed(new_policy(), prompts[:1])
    policy, other = new_policy(), new_policy()
    other.vision_cache.tower_hash = "another tower"
    inputs = [policy.encode(prompts[0])]
    assert len(patches_made) == 2 and inputs[0].media[0].features is not None
    with torch.no_grad():
        features = [torch.cat(one.vision_cache.features(inputs)) for one in (policy, other)]
    assert torch.equal(*features) and len(patches_made) == 4


def test_a_model_with_another_tower_does_not_read_its_features(new_policy, prompts):
    policy, other = new_policy(), new_policy()
    with torch.no_grad():
        for weights in other.model.model.visual.parameters():
            weights.mul_(1.5)
    other.vision_cache.tower_hash = hash_of_tower(vision_tower(other.model))
    inputs = [policy.encode(prompts[0])]
    policy.vision_cache.features(inputs)  # as a run does before each step
    with torch.no_grad():
        read, own = (torch.cat(other.vision_cache.features(rows)) for rows in (inputs, [other.encode(prompts[0])]))
        theirs = torch.cat(policy.vision_cache.features(inputs))
    assert torch.equal(read, own) and not torch.allclose(read, theirs)


def test_other_pixels_weights_and_precisions_have_features_of_their_own(new_policy, new_cache, prompts, tower_calls):
    policy, prompt = new_policy(), prompts[0]
    embed(policy, [prompt])
    clip = policy.frames(prompt)
    for view, new_media in (("image_only", 0), ("reversed", 1), ("blank", 2), ("text_only", 0)):
        calls_before = len(tower_calls)
        policy.embed([policy.encode(prompt, apply_view(view, clip, prompt.id))])
        assert len(tower_calls) - calls_before == new_media, view
    embed(new_policy("train.freeze_vision_tower=false", "train.lora_r=2"), [prompt])
    assert len(tower_calls) == 5, "LoRA does not change the tower"
    embed(new_policy("train.dtype=bfloat16"), [prompt])
    assert len(tower_calls) == 7
    changed = new_policy()
    with torch.no_grad():
        changed.model.model.visual.patch_embed.proj.weight[0, 0, 0, 0, 0] += 1e-6
    changed.vision_cache = new_cache(changed)
    embed(changed, [prompt])
    assert len(tower_calls) == 9


@pytest.mark.parametrize("damage", ["cut", "bit", "empty"])
def test_a_damaged_file_is_rebuilt_and_counted(new_policy, prompts, damage):
    computed = embed(new_policy(), prompts[:1])
    policy = new_policy()
    file = next(policy.vision_cache.store.folder.iterdir())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes({"cut": content[:-4], "bit": content, "empty": b""}[damage])
    assert torch.equal(embed(policy, prompts[:1]), computed)
    cache = policy.vision_cache
    assert (cache.rebuilt, cache.misses, cache.hits) == (1, 1, 1)
    assert torch.equal(embed(new_policy(), prompts[:1]), computed)


def test_the_least_recently_used_files_are_deleted_first(new_policy, prompts):
    policy = new_policy()
    store = policy.vision_cache.store
    store.max_bytes = 2.5 * (DIGEST_BYTES + VIDEO_TOKENS * HIDDEN_SIZE * 4)  # two videos, not three
    video_prompts = [replace(prompt, image=None) for prompt in prompts[:3]]
    for age, prompt in enumerate(video_prompts):
        embed(policy, [prompt])
        os.utime(policy.encode(prompt).media[0].path, (1000 + age, 1000 + age))
        store.bytes_until_eviction = 0.0
    deleted = [policy.encode(prompt).media[0].features is None for prompt in video_prompts]
    assert deleted == [True, False, False]


def test_a_cache_folder_that_fails_is_one_line_with_its_fix(new_policy, prompts):
    policy = new_policy()
    inputs = [policy.encode(prompts[0])]
    policy.vision_cache.store.folder.rmdir()
    with pytest.raises(UserError, match=r"feature cache .*: No such file or directory; .* set video.cache_dir"):
        policy.embed(inputs)


def test_a_run_with_cached_features_has_the_same_metrics(tmp_path, kitchen, tower_calls):
    small = ["train.max_steps=2", "train.prompts_per_step=4", "train.max_completion_length=30", "eval.limit=3", FROZEN]
    small += ["eval.transfer=[]", "algorithm.beta=0.1", f'video.cache_dir="{tmp_path / "cache"}"']
    api.train("nano", small, tmp_path / "cold")
    assert tower_calls and set(tower_calls) == {1}
    tower_calls.clear()
    api.train("nano", small, tmp_path / "warm")
    assert tower_calls == [1] * 3, "the parity gate computes those of a prompt of each kind anew"
    cold, warm = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("cold", "warm"))
    assert cold == warm and cold.count("\n") == 2
