"""The embedded base model: a real Qwen2-VL folder that sees, and that has something left to learn."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from scipy.stats import binomtest
from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from rlvid.config import load
from rlvid.data import kitchen_world
from rlvid.data.kitchen import sample
from rlvid.data.seed_bench_r1 import load as read
from rlvid.nano import model
from rlvid.nano.lessons import Lesson, caption, collate, question
from rlvid.policy.model import Policy
from rlvid.policy.sampler import Sampler
from rlvid.types import Prompt
from rlvid.video.views import Clip


@pytest.fixture(scope="module")
def tokens():
    return AutoTokenizer.from_pretrained(model.BASE)


@pytest.fixture(scope="module")
def base():
    return Qwen2VLForConditionalGeneration.from_pretrained(model.BASE, dtype=torch.float32)


def test_the_folder_is_small_and_a_real_qwen2_vl(base, tokens):
    assert sum(p.stat().st_size for p in model.BASE.iterdir()) < 8e6
    assert 2e6 < base.num_parameters() < 3e6
    stored = {t.dtype for t in load_file(model.BASE / "model.safetensors").values()}
    assert stored == {torch.float16} and base.config.dtype == torch.float32
    assert base.generation_config.eos_token_id == [tokens.eos_token_id, tokens.pad_token_id]
    processor = Qwen2VLImageProcessorPil.from_pretrained(model.BASE)
    assert (processor.patch_size, processor.temporal_patch_size, processor.merge_size) == (14, 2, 2)
    pixels = processor([np.zeros((56, 56, 3), np.uint8)], return_tensors="pt")
    assert pixels["image_grid_thw"].tolist() == [[1, 4, 4]]


def test_special_tokens_are_single_and_the_config_knows_them(base, tokens):
    ids = [tokens.encode(token) for token in model.SPECIAL]
    assert all(len(i) == 1 for i in ids) and len({i[0] for i in ids}) == len(model.SPECIAL)
    for key, token in (
        ("image_token_id", "<|image_pad|>"),
        ("video_token_id", "<|video_pad|>"),
        ("vision_start_token_id", "<|vision_start|>"),
        ("vision_end_token_id", "<|vision_end|>"),
    ):
        assert [getattr(base.config, key)] == tokens.encode(token)
    assert (tokens.eos_token, tokens.pad_token) == ("<|im_end|>", "<|endoftext|>")


@given(st.text())
def test_any_text_survives_the_tokenizer(tokens, text):
    assert tokens.decode(tokens.encode(text)) == text


def test_an_ingredient_an_option_and_an_answer_are_one_token_each(tokens):
    for item in kitchen_world.INGREDIENTS:
        assert len(tokens.encode(f" {item}.")) == 1, item
        assert len(tokens.encode(f"\nB. {kitchen_world.Move(item).narration}")) == 1, item
    assert all(len(tokens.encode(f"</think><answer>{letter}</answer>")) == 1 for letter in "ABCD")


def test_the_chat_is_qwen2_vls(tokens):
    content = [{"type": "video"}, {"type": "image"}, {"type": "text", "text": "What next?"}]
    chat = [{"role": "user", "content": content}, {"role": "assistant", "content": "A"}]
    assert tokens.apply_chat_template(chat, tokenize=False) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|><|vision_start|><|image_pad|><|vision_end|>"
        "What next?<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    )
    chat = [{"role": "system", "content": "Cook."}, {"role": "user", "content": "Hi"}]
    assert tokens.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nCook.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def lesson() -> tuple[Lesson, Prompt]:
    s = next(s for s in (sample(np.random.default_rng(i), "L1", i) for i in range(9)) if s.clip is not None)
    return question(s, care=0.99), Prompt("q", s.question, s.options, s.letter)


def test_pretraining_reads_what_the_policy_will_read(base, tokens):
    """The same tokens and the same patches, in the same order."""
    taught, prompt = lesson()
    policy = Policy.load(load("nano"))
    encoded = policy.encode(prompt, Clip(taught.video, taught.image))
    batch = collate([taught], tokens, base.config)
    asked = int((batch["labels"] == -100).sum())
    assert batch["input_ids"][0, :asked].tolist() == encoded.input_ids.tolist()
    patches = torch.cat([batch["pixel_values_videos"], batch["pixel_values"]])
    assert torch.allclose(patches, encoded.pixel_values, atol=1e-5)
    assert tokens.decode(batch["input_ids"][0, asked:]) == f"{taught.reply}<|im_end|>"


def test_pixels_matter(base, tokens):
    """The right reasoning is likelier under its own pixels than under another kitchen's."""
    drawn = [s for s in (sample(np.random.default_rng(i), "L1", i) for i in range(20)) if s.clip is not None][:8]
    own = [question(s, care=0.99) for s in drawn]
    others = [replace(a, video=b.video, image=b.image) for a, b in zip(own, own[1:] + own[:1], strict=True)]
    with torch.no_grad():
        seen, unseen = (base(**collate(lessons, tokens, base.config)).loss for lessons in (own, others))
    assert unseen > seen + 0.05


def test_pretraining_is_deterministic():
    (a, _), (b, _), (c, _) = (model.pretrain(steps=2, seed=seed) for seed in (1, 1, 2))
    first, second, third = (model.state_dict() for model in (a, b, c))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], third["lm_head.weight"])


def test_what_is_saved_is_what_is_loaded(tmp_path):
    trained, made = model.pretrain(steps=1, seed=0)
    model.save(trained, made, tmp_path)
    again = Qwen2VLForConditionalGeneration.from_pretrained(tmp_path)
    assert again.dtype == torch.float32
    assert torch.equal(again.lm_head.weight, trained.lm_head.weight.float())
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == made.get_vocab()


def test_captions_name_what_was_drawn():
    s = sample(np.random.default_rng(4), "train", 0)
    assert all(m.item in caption(s).reply for m in s.scene.is_ema[: s.scene.filmed])


def test_the_base_is_above_chance_and_below_the_ceiling(kitchen):
    """Greedy on 96 questions of L1, read from disk as a run reads them."""
    policy = Policy.load(load("nano"))
    prompts = read(kitchen, "L1")[:96]
    greedy = replace(load("nano").train, temperature=0.0, num_generations=1)
    groups = Sampler(policy, greedy, nullcontext)(prompts, [policy.encode(p) for p in prompts], "0")
    right = sum(group.completions[0].answer == group.prompt.answer for group in groups)
    assert binomtest(right, 96).proportion_ci(0.99).low > 0.25
    assert right < 0.8 * 96
