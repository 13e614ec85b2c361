"""A frozen tower's features: the same bits made or read, damage, bounds, and who shares them."""

import os
from dataclasses import replace

import pytest
import torch
from transformers import Qwen2VLModel

from rlvid import api
from rlvid.config import load
from rlvid.errors import UserError
from rlvid.policy.model import Policy
from rlvid.policy.vision_cache import VisionFeatureCache
from rlvid.video.views import apply_view

FROZEN = "train.freeze_vision_tower=true"


@pytest.fixture
def looks(monkeypatch):
    """How many media each call of the vision tower is shown."""
    calls, look = [], Qwen2VLModel.get_image_features
    monkeypatch.setattr(
        Qwen2VLModel,
        "get_image_features",
        lambda self, x, grids, **more: calls.append(len(grids)) or look(self, x, grids, **more),
    )
    return calls


@pytest.fixture
def kept(tmp_path):
    """A policy's features in a cache of this test's own."""

    def features(policy):
        video = replace(policy.frames.video, cache_dir=str(tmp_path / "cache"))
        return VisionFeatureCache(policy.model, video, policy.mixed)

    return features


@pytest.fixture
def fresh(kept):
    """Makes policies with a frozen tower that share that cache."""

    def make(*overrides):
        policy = Policy.load(load("nano", [FROZEN, *overrides]))
        policy.features = kept(policy)
        return policy

    return make


def media(prompts):
    return sum((p.video is not None) + (p.image is not None) for p in prompts)


def embedded(policy, prompts):
    with torch.no_grad(), policy.precision():
        return torch.cat(policy.embed([policy.encode(p) for p in prompts]))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_made_or_read_they_are_the_same_bits(fresh, prompts, looks, dtype):
    first = fresh(f"train.dtype={dtype}")
    made = embedded(first, prompts)
    assert looks == [1] * media(prompts) == [1] * first.features.misses
    size = {p.stat().st_size for p in first.features.store.folder.iterdir()}
    tokens = [16, 4]  # of a video of eight frames of 56x56, of an image
    assert size <= {16 + n * 192 * (4 if dtype == "float32" else 2) for n in tokens} and len(size) == 2
    assert torch.equal(embedded(first, prompts[::-1][:3]), embedded(fresh(f"train.dtype={dtype}"), prompts[::-1][:3]))
    other = fresh(f"train.dtype={dtype}")
    assert torch.equal(embedded(other, prompts), made) and other.features.hits == media(prompts)
    assert len(looks) == media(prompts)


def test_they_are_what_the_tower_makes_of_all_media_at_once(fresh, policy, prompts):
    assert policy.features is None and Policy.load(load("nano", [FROZEN])).features
    torch.testing.assert_close(embedded(fresh(), prompts), embedded(policy, prompts), rtol=1e-5, atol=1e-5)


def test_a_step_looks_once(fresh, prompts, looks):
    policy = fresh()
    encoded = [policy.encode(p) for p in prompts]
    for _ in range(3):
        policy.embed(encoded)
    assert len(looks) == media(prompts)


def test_other_pixels_weights_and_precisions_are_other_features(fresh, kept, prompts, looks):
    policy, prompt = fresh(), prompts[0]
    embedded(policy, [prompt])
    seen = policy.frames(prompt)
    for name, new in (("image_only", 0), ("reversed", 1), ("blank", 2), ("text_only", 0)):
        before = len(looks)
        policy.embed([policy.encode(prompt, apply_view(name, seen, prompt.id))])
        assert len(looks) - before == new
    embedded(fresh("train.freeze_vision_tower=false", "train.lora_r=2"), [prompt])
    assert len(looks) == 5  # LoRA leaves the tower alone
    embedded(fresh("train.dtype=bfloat16"), [prompt])
    assert len(looks) == 7
    changed = fresh()
    with torch.no_grad():
        changed.model.model.visual.patch_embed.proj.weight[0, 0, 0, 0, 0] += 1e-6
    changed.features = kept(changed)
    embedded(changed, [prompt])
    assert len(looks) == 9


@pytest.mark.parametrize("damage", ["cut", "bit", "empty"])
def test_a_damaged_file_is_made_again_and_counted(fresh, prompts, damage):
    made = embedded(fresh(), prompts[:1])
    policy = fresh()
    file = next(policy.features.store.folder.iterdir())
    kept = bytearray(file.read_bytes())
    kept[len(kept) // 2] ^= 1
    file.write_bytes({"cut": kept[:-4], "bit": kept, "empty": b""}[damage])
    assert torch.equal(embedded(policy, prompts[:1]), made)
    assert (policy.features.rebuilt, policy.features.misses, policy.features.hits) == (1, 1, 1)
    assert torch.equal(embedded(fresh(), prompts[:1]), made)


def test_the_least_recently_used_go_first(fresh, prompts):
    policy = fresh()
    store, size = policy.features.store, 16 + 16 * 192 * 4
    store.max_bytes = 2.5 * size
    clips = [replace(p, image=None) for p in prompts[:3]]
    for age, clip in enumerate(clips):
        embedded(policy, [clip])
        os.utime(policy.encode(clip).media[0].path, (1000 + age, 1000 + age))
        store.bytes_until_eviction = 0.0
    assert [policy.encode(clip).media[0].features is None for clip in clips] == [True, False, False]


def test_a_full_disk_is_the_users_to_mend(fresh, prompts):
    policy = fresh()
    encoded = [policy.encode(prompts[0])]
    policy.features.store.folder.rmdir()
    with pytest.raises(UserError, match=r"feature cache .*: No such file or directory; .* set video.cache_dir"):
        policy.embed(encoded)


def test_a_run_with_kept_features_is_the_same_run(tmp_path, kitchen, looks):
    small = ["train.max_steps=2", "train.prompts_per_step=4", "train.max_completion_length=30", "eval.limit=3", FROZEN]
    small += ["eval.transfer=[]"]
    small += ["algorithm.beta=0.1", f'video.cache_dir="{tmp_path / "cache"}"']
    api.train("nano", small, tmp_path / "cold")
    assert looks and set(looks) == {1}
    looks.clear()
    api.train("nano", small, tmp_path / "warm")
    assert looks == []
    cold, warm = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("cold", "warm"))
    assert cold == warm and cold.count("\n") == 2
