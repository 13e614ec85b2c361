"""The embedded base model: the real Qwen2-VL architecture at 2.6 M parameters, pretrained on kitchens in minutes.

    python -m rlvid.nano.model OUT [--steps 380] [--seed 0]

Pretraining stops early on purpose: the base sees, reasons and looks up so-so, and forgets the answer's tags now and
then, most of all where there is no video. So reinforcement learning has something to do.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from rlvid.data.kitchen import sample
from rlvid.data.kitchen_world import INGREDIENTS
from rlvid.nano.lessons import WORLDS, caption, collate, glance, lessons, look_up, question
from rlvid.policy.mrope import TRANSFORMERS_POSITIONS

BASE = Path(__file__).parent / "base"
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
CHAT = """\
{% for message in messages %}\
{% if loop.first and message['role'] != 'system' %}\
<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}\
<|im_start|>{{ message['role'] }}\n\
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}\
{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>\
{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>\
{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}\
{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"""


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE, lossless on any text, with Qwen's special tokens and chat.

    Ingredients stand alone; an option's line is one token, and so is whatever else is always written together, as in
    SuperBPE (arXiv:2503.13423). A question is a third as long as in words, and from an action to its letter it is one
    attention. Trials with words as tokens had not learnt that look-up in whole replies (experiments/README.md).
    """
    bpe = Tokenizer(models.BPE())
    alone = Regex(rf"\n[A-Z]\. [^\n]+| (?:{'|'.join(INGREDIENTS)})[,.?]?| in order to|</think><answer>[A-Z]</answer>")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(alone, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        min_frequency=1,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(_texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(SPECIAL[1:]),
        chat_template=CHAT,
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )


def _texts() -> Iterator[str]:
    """Whatever is written in kitchens, in a fixed order."""
    yield "system\nYou are a helpful assistant.\nuser\n assistant\n"
    for number in range(200):
        s = sample(np.random.default_rng([WORLDS, number]), ("train", "L3")[number % 2], number // 2)
        for lesson in (glance(s), caption(s), look_up(s, np.random.default_rng(number)), question(s, number % 2)):
            yield lesson.text
            yield lesson.reply


def config(tokens: PreTrainedTokenizerBase) -> Qwen2VLConfig:
    """Qwen2-VL's architecture, small: 2.6 M parameters, 0.8 M of them vision."""
    ids = {name: tokens.convert_tokens_to_ids(f"<|{name}|>") for name in ("im_end", "endoftext")}
    ids |= {part: tokens.convert_tokens_to_ids(f"<|{part}|>") for part in ("vision_start", "vision_end")}
    rope = {"rope_type": "default", "type": "mrope", "mrope_section": [4, 6, 6], "rope_theta": 1e4}
    spread = {"initializer_range": 0.05}  # 0.02 is meant for wider layers: twice the steps until the first word is seen
    return Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokens), "hidden_size": 192, "intermediate_size": 576, "num_hidden_layers": 4,
            "num_attention_heads": 6, "num_key_value_heads": 3, "max_position_embeddings": 4096,
            "rope_parameters": rope, "tie_word_embeddings": True, "eos_token_id": ids["im_end"],
            "pad_token_id": ids["endoftext"], "bos_token_id": None, **spread,
        },
        vision_config={
            "depth": 2, "embed_dim": 128, "hidden_size": 192, "num_heads": 4, "mlp_ratio": 2, "patch_size": 14,
            "temporal_patch_size": 2, "spatial_merge_size": 2, **spread,
        },
        **spread,
        **TRANSFORMERS_POSITIONS,
        tie_word_embeddings=True,
        image_token_id=tokens.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokens.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
    )  # fmt: skip


def pretrain(steps: int = 380, seed: int = 0) -> tuple[Qwen2VLForConditionalGeneration, PreTrainedTokenizerFast]:
    """Train from scratch with AdamW; the same weights for the same arguments on one machine."""
    torch.manual_seed(seed)
    tokens = tokenizer()
    model = Qwen2VLForConditionalGeneration(config(tokens))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / 30, total_iters=30)
    for step in track(range(steps), description="pretraining"):
        for batch in lessons(step, seed):
            model(**collate(batch, tokens, model.config)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return model, tokens


def save(model: Qwen2VLForConditionalGeneration, tokens: PreTrainedTokenizerFast, out: Path) -> None:
    """Write a Qwen2-VL folder: float16 on disk, to be loaded as float32."""
    eos, pad = tokens.eos_token_id, tokens.pad_token_id
    model.generation_config = GenerationConfig(eos_token_id=[eos, pad], pad_token_id=pad)
    model.half().save_pretrained(out)
    model.config.dtype = torch.float32
    model.config.save_pretrained(out)
    tokens.save_pretrained(out)
    Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=56 * 56).save_pretrained(out)


def main() -> None:
    """Pretrain and save, from the command line."""
    parser = argparse.ArgumentParser(prog="rlvid.nano.model", description="Pretrain the embedded base model.")
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("--steps", type=int, default=380)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    save(*pretrain(args.steps, args.seed), args.out)


if __name__ == "__main__":
    main()
