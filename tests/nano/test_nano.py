"""Tests of the embedded base models: real checkpoints that use the pixels and have something left to learn."""

from contextlib import nullcontext
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from scipy.stats import binomtest
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from rlvid.api.evaluated import evaluation_config
from rlvid.config import load
from rlvid.data import kitchen_world
from rlvid.data.kitchen import COUNTS, Sample, draw_sample, write
from rlvid.data.seed_bench_r1 import load as load_split
from rlvid.errors import UserError
from rlvid.nano import model
from rlvid.nano.architectures import build_config
from rlvid.nano.conditions import CONDITIONS
from rlvid.nano.lessons import FRAME_SIZE, IGNORED, caption_lesson, collate, lesson_clock, question_lesson
from rlvid.policy.families import FAMILIES, family_of
from rlvid.policy.sampler import Sampler
from rlvid.registry import NANO_CHECKPOINT, embedded_models
from rlvid.types import Prompt
from rlvid.video.resize import resize
from rlvid.video.views import Clip
from tests.helpers.policies import load_policy


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(NANO_CHECKPOINT)


@pytest.fixture(scope="module")
def base():
    return Qwen2VLForConditionalGeneration.from_pretrained(NANO_CHECKPOINT, dtype=torch.float32)


def test_the_checkpoint_is_small_and_a_real_qwen2_vl(base, tokenizer):
    assert sum(path.stat().st_size for path in NANO_CHECKPOINT.iterdir()) < 8e6
    assert 2e6 < base.num_parameters() < 3e6
    stored_dtypes = {tensor.dtype for tensor in load_file(NANO_CHECKPOINT / "model.safetensors").values()}
    assert stored_dtypes == {torch.float16} and base.config.dtype == torch.float32
    assert base.generation_config.eos_token_id == [tokenizer.eos_token_id, tokenizer.pad_token_id]
    processor = Qwen2VLImageProcessorPil.from_pretrained(NANO_CHECKPOINT)
    assert (processor.patch_size, processor.temporal_patch_size, processor.merge_size) == (14, 2, 2)
    pixels = processor([np.zeros((56, 56, 3), np.uint8)], return_tensors="pt")
    assert pixels["image_grid_thw"].tolist() == [[1, 4, 4]]


@pytest.mark.parametrize("name", embedded_models())
def test_every_embedded_model_is_small_and_of_its_family(name):
    folder = embedded_models()[name]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8e6
    config = AutoConfig.from_pretrained(folder)
    assert config.model_type == (name.removeprefix("nano/") if name.removeprefix("nano/") in FAMILIES else "qwen2_vl")
    family, processor = family_of(config), Qwen2VLImageProcessorPil.from_pretrained(folder)
    assert (processor.patch_size, tuple(processor.image_mean)) == (family.vision.patch_size, family.mean)
    pixels = processor([np.zeros((56, 56, 3), np.uint8)], return_tensors="pt")
    assert pixels["image_grid_thw"].tolist() == [[1, 4, 4]]


def test_special_tokens_are_single_and_the_config_knows_them(base, tokenizer):
    ids = [tokenizer.encode(token) for token in model.SPECIAL_TOKENS]
    assert all(len(token_ids) == 1 for token_ids in ids) and len({token_ids[0] for token_ids in ids}) == len(ids)
    for key, token in (
        ("image_token_id", "<|image_pad|>"),
        ("video_token_id", "<|video_pad|>"),
        ("vision_start_token_id", "<|vision_start|>"),
        ("vision_end_token_id", "<|vision_end|>"),
    ):
        assert [getattr(base.config, key)] == tokenizer.encode(token)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")


@given(st.text())
def test_any_text_survives_the_tokenizer(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_an_ingredient_an_option_and_an_answer_are_one_token_each(tokenizer):
    for item in kitchen_world.INGREDIENTS:
        assert len(tokenizer.encode(f" {item}.")) == 1, item
        assert len(tokenizer.encode(f"\nB. {kitchen_world.Move(item).narration}")) == 1, item
    assert all(len(tokenizer.encode(f"</think><answer>{letter}</answer>")) == 1 for letter in "ABCD")


def test_the_chat_template_gives_the_chats_of_qwen2_vl(tokenizer):
    content = [{"type": "video"}, {"type": "image"}, {"type": "text", "text": "What next?"}]
    chat = [{"role": "user", "content": content}, {"role": "assistant", "content": "A"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|><|vision_start|><|image_pad|><|vision_end|>"
        "What next?<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    )
    chat = [{"role": "system", "content": "Cook."}, {"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nCook.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def samples_with_video(count: int) -> list[Sample]:
    samples = (draw_sample(np.random.default_rng(i), "L1", i) for i in range(2 * count + 4))
    return [sample for sample in samples if sample.clip is not None][:count]


@pytest.mark.parametrize("name", embedded_models())
def test_pretraining_and_the_policy_encode_a_question_alike(name, kitchen):
    """The tokens, the positions and the patches are equal and in the same order."""
    policy = load_policy(f"model={name}")
    tokenizer, [sample] = policy.tokenizer, samples_with_video(1)
    lesson = question_lesson(sample, uniform=0.99)
    prompt = Prompt("q", sample.question, sample.options, sample.letter)
    shown = (resize(frames, FRAME_SIZE, policy.family.image_factor) for frames in (lesson.video, lesson.image))
    inputs = policy.encode(prompt, Clip(*shown, lesson_clock(8, 2.0)))
    batch = collate([lesson], tokenizer, policy.model.config)
    prompt_length = int((batch["labels"] == IGNORED).sum())
    assert batch["input_ids"][0, :prompt_length].tolist() == inputs.input_ids.tolist()
    assert torch.equal(batch["position_ids"][:, 0, :prompt_length], inputs.position_ids)
    patches = torch.cat([batch["pixel_values_videos"], batch["pixel_values"]])
    assert torch.allclose(patches, inputs.pixel_values, atol=1e-5)
    assert tokenizer.decode(batch["input_ids"][0, prompt_length:]) == f"{lesson.reply}<|im_end|>"


def test_the_right_reasoning_is_likelier_with_its_own_pixels(base, tokenizer):
    """The loss is lower than with the pixels of another sample."""
    lessons = [question_lesson(sample, uniform=0.99) for sample in samples_with_video(8)]
    shifted = lessons[1:] + lessons[:1]
    with_other_pixels = [
        replace(lesson, video=other.video, image=other.image) for lesson, other in zip(lessons, shifted, strict=True)
    ]
    with torch.no_grad():
        own_loss, other_loss = (
            base(**collate(batch, tokenizer, base.config)).loss for batch in (lessons, with_other_pixels)
        )
    assert other_loss > own_loss + 0.05


def test_pretraining_depends_on_the_seed_alone():
    (a, _), (b, _), (c, _) = (model.pretrain(steps=2, seed=seed) for seed in (1, 1, 2))
    first, second, third = (trained.state_dict() for trained in (a, b, c))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], third["lm_head.weight"])


@pytest.mark.parametrize(("size", "millions"), [("2.6m", 2.6), ("20m", 21.5)])
def test_each_size_has_its_parameters(tokenizer, size, millions):
    with torch.device("meta"):
        sized = AutoModelForImageTextToText.from_config(build_config(tokenizer, size=size))
    assert sum(parameter.numel() for parameter in sized.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
    assert family_of(sized.config).packs_rows, "the sections of the rotary embedding fit the head size"


def test_a_size_that_a_family_lacks_is_refused(tokenizer):
    with pytest.raises(UserError, match="qwen3_vl has no shape of size 20m"):
        build_config(tokenizer, "qwen3_vl", "20m")
    with pytest.raises(UserError, match="hallucinating continues nano: leave out --family and --size"):
        model.pretrain(1, 0, CONDITIONS["hallucinating"], size="20m")


def test_a_saved_model_is_loaded_with_the_same_weights_and_vocabulary(tmp_path):
    trained, trained_tokenizer = model.pretrain(steps=1, seed=0)
    model.save(trained, trained_tokenizer, tmp_path)
    loaded = Qwen2VLForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded.lm_head.weight, trained.lm_head.weight.float())
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == trained_tokenizer.get_vocab()
    config = evaluation_config(tmp_path, None, (), ())
    assert config.model == str(tmp_path) and config.video == load("nano").video, "measured with the frames of nano"


def test_captions_name_the_filmed_ingredients():
    sample = draw_sample(np.random.default_rng(4), "train", 0)
    caption = caption_lesson(sample).reply
    assert all(move.item in caption for move in sample.scene.moves[: sample.scene.filmed])


@pytest.fixture(scope="module")
def questions_of(tmp_path_factory):
    """A function: world -> the first 96 questions of its L1, read from disk as in a run."""

    @cache
    def questions(world):
        folder = tmp_path_factory.mktemp("world") / "data"
        write(folder, counts=dict.fromkeys(COUNTS, 1) | {"L1": 96}, variant=world.partition("/")[2])
        return load_split(folder, "L1")

    return questions


@pytest.mark.parametrize("name", embedded_models())
def test_a_base_model_is_above_chance_and_can_still_improve(name, questions_of):
    """Greedy decoding on 96 questions of L1, of the world of its condition."""
    worlds = {condition.model: condition.data for condition in reversed(CONDITIONS.values())}  # its first condition
    policy, prompts = load_policy(f"model={name}"), questions_of(worlds.get(name, "kitchen"))
    greedy = replace(load("nano").train, temperature=0.0, num_generations=1)
    groups = Sampler(policy, greedy, nullcontext)(prompts, [policy.encode(prompt) for prompt in prompts], "0")
    correct = sum(group.completions[0].answer == group.prompt.answer for group in groups)
    assert binomtest(correct, 96).proportion_ci(0.99).low > 0.25
    assert correct < 0.8 * 96
