"""Pretrain an embedded base model: a family's architecture in a small size, on kitchen samples, in minutes.

    python -m rlvid.nano.model OUT [--family qwen2_vl] [--size 2.6m] [--condition plain] [--seed 0] [--steps N]

Pretraining stops early on purpose, so that reinforcement learning has something to improve. The base model sees,
reasons and looks up letters moderately well, and sometimes omits the tags of the answer, most often without a video.
A condition gives it a further weakness, see `rlvid.nano.conditions`. The checkpoints that come with rlvid are in
`rlvid/nano`: `base` is the model "nano" (`rlvid.registry.NANO_CHECKPOINT`), a Qwen2-VL; each other folder is the model
"nano/FOLDER", of another family or condition. They have 2.6 M parameters; models of other sizes are not shipped.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from rich.progress import track
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForImageTextToText,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from rlvid.config import load
from rlvid.data.kitchen import draw_sample
from rlvid.data.kitchen_world import INGREDIENTS
from rlvid.errors import UserError
from rlvid.nano.architectures import ARCHITECTURES, SIZES, build_config
from rlvid.nano.conditions import CONDITIONS, PLAIN, Condition
from rlvid.nano.lessons import (
    SEED_OFFSET,
    Lesson,
    caption_lesson,
    collate,
    lesson_batches,
    lesson_clock,
    lookup_lesson,
    pot_lesson,
    question_lesson,
)
from rlvid.policy.families import FAMILIES, family_of
from rlvid.registry import MODEL_SETTINGS, model_path
from rlvid.utils.files import write_text

SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
CHAT_TEMPLATE = """\
{% for message in messages %}\
{% if loop.first and message['role'] != 'system' %}\
<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}\
<|im_start|>{{ message['role'] }}\n\
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}\
{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>\
{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>\
{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}\
{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"""
TIME_UNITS = r"|<\d+|\.\d seconds>"  # a moment's time is two tokens, so that seconds are learnt apart from tenths


def build_tokenizer(model_type: str = "qwen2_vl") -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on kitchen texts, with the family's special tokens and chat template.

    It is lossless on any text. Every ingredient is one token, and so is every line with an option and everything else
    that always occurs together, as in SuperBPE (arXiv:2503.13423). So a question has a third of the tokens that it has
    with words as tokens, and the letter of an action takes one attention step to find. Trials with words as tokens had
    not learnt this lookup within full replies (experiments/README.md).
    """
    times = _time_texts(model_type)
    bpe = Tokenizer(models.BPE())
    units = rf"\n[A-Z]\. [^\n]+| (?:{'|'.join(INGREDIENTS)})[,.?]?| in order to|</think><answer>[A-Z]</answer>"
    units += TIME_UNITS if times else ""
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(units), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        min_frequency=1,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator([*_tokenizer_texts(), *times], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(SPECIAL_TOKENS[1:]),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )


def _tokenizer_texts() -> Iterator[str]:
    """Yield the texts that the tokenizer is trained on, in a fixed order: the lessons of 200 samples."""
    yield "system\nYou are a helpful assistant.\nuser\n assistant\n"
    for number in range(200):
        level = ("train", "L3")[number % 2]
        sample = draw_sample(np.random.default_rng([SEED_OFFSET, number]), level, number // 2)
        lessons: tuple[Lesson, ...] = (
            pot_lesson(sample),
            caption_lesson(sample),
            lookup_lesson(sample, np.random.default_rng(number)),
            question_lesson(sample, number % 2),
        )
        for lesson in lessons:
            yield lesson.text
            yield lesson.reply


def _time_texts(model_type: str) -> list[str]:
    """The times that a family writes between the frames of clips."""
    vision, _, _ = ARCHITECTURES[model_type]
    family = FAMILIES[model_type](SimpleNamespace(vision_config=SimpleNamespace(**vision)))
    clocks = [lesson_clock(80, frames_per_second) for frames_per_second in (1.0, 2.0, 4.0, 5.0, 8.0, 10.0)]
    segments = [segment for clock in clocks for segment in family.video_segments((40, 1, 1), clock)]
    return [segment.text for segment in segments if segment.text]


def pretrain(
    steps: int = 0,
    seed: int = 0,
    condition: Condition = PLAIN,
    model_type: str = "qwen2_vl",
    size: str = "2.6m",
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Train the model with AdamW, from scratch or from where the condition starts; return it with its tokenizer.

    On one machine the same arguments give the same weights.

    Args:
        steps: optimizer steps; 0: those of the condition.
        seed: of the weights and the lessons.
        condition: what the lessons are like.
        model_type: the family, a key of `ARCHITECTURES`.
        size: a key of `SIZES`.

    Raises:
        UserError: there is no such size of the family, or the condition continues a model of another one.
    """
    torch.manual_seed(seed)
    if condition.start:
        if (model_type, size) != ("qwen2_vl", "2.6m"):
            raise UserError(f"{condition.name} continues {condition.start}: leave out --family and --size")
        folder = model_path(condition.start)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        model, first = AutoModelForImageTextToText.from_pretrained(folder), PLAIN.steps
    else:
        tokenizer = build_tokenizer(model_type)
        model, first = AutoModelForImageTextToText.from_config(build_config(tokenizer, model_type, size)), 0
    optimizer = torch.optim.AdamW(model.parameters(), lr=SIZES[size].learning_rate, betas=(0.9, 0.98))
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / 30, total_iters=30)
    for step in track(range(first, first + (steps or condition.steps)), description="pretraining"):
        for batch in lesson_batches(step, seed, condition):
            model(**collate(batch, tokenizer, model.config)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        warmup.step()
    return model, tokenizer


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a checkpoint folder: weights, configs, tokenizer, image processor, and the settings for `rlvid eval`.

    The weights are stored as float16 to save space; the config sets float32, so `from_pretrained` loads them as
    float32.
    """
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    model.generation_config = GenerationConfig(eos_token_id=[eos, pad], pad_token_id=pad)
    model.half().save_pretrained(folder)
    model.config.dtype = torch.float32
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    family = family_of(model.config)
    pixels = (4 * family.vision.patch_size) ** 2  # two visual tokens a side
    Qwen2VLImageProcessorPil(
        min_pixels=pixels,
        max_pixels=pixels,
        patch_size=family.vision.patch_size,
        image_mean=list(family.mean),
        image_std=list(family.std),
    ).save_pretrained(folder)
    write_text(folder / MODEL_SETTINGS, load("nano").to_toml())


def main() -> None:
    """Run the command line: pretrain and save."""
    parser = argparse.ArgumentParser(prog="rlvid.nano.model", description="Pretrain the embedded base model.")
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("--family", choices=ARCHITECTURES, default="qwen2_vl", help="model_type (default: %(default)s)")
    parser.add_argument("--size", choices=SIZES, default="2.6m", help="parameters (default: %(default)s)")
    parser.add_argument("--condition", default="plain", choices=CONDITIONS, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and the lessons (default: 0)")
    parser.add_argument("--steps", type=int, default=0, help="optimizer steps (default: those of the condition)")
    args = parser.parse_args()
    try:
        save(*pretrain(args.steps, args.seed, CONDITIONS[args.condition], args.family, args.size), args.out)
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
