"""What the embedded base model is taught, and how lessons become tensors.

Glances ask for the one ingredient in the pot, captions for all that the pixels show, look-ups for the letter of an
action (text only); questions are the benchmark's own. Without glances no caption is learnt: nothing ties words to
pixels until one word in one place does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase, Qwen2VLConfig

from rlvid.answer import LETTERS, format_question
from rlvid.data.kitchen import Sample, sample
from rlvid.video.pixels import patchify

WORLDS = 1_000_003  # added to seeds: no lesson shows a world of the benchmark
GLANCES, CAPTIONS = 30, 225  # the first steps are glances, then captions; all after are questions


@dataclass(frozen=True)
class Lesson:
    """What the user shows and says, and the reply to learn."""

    text: str
    reply: str
    video: np.ndarray | None = None  # (T, H, W, 3) uint8
    image: np.ndarray | None = None  # (1, H, W, 3) uint8


def glance(s: Sample) -> Lesson:
    """One thing in one place."""
    return Lesson("What is in the pot?", f"{s.scene.newest}.", None, s.observation[None])


def caption(s: Sample) -> Lesson:
    """Perception alone."""
    return Lesson("What do you see?", s.scene.seen, s.clip, s.observation[None])


def look_up(s: Sample, rng: np.random.Generator) -> Lesson:
    """From actions to their letters: each once, since what comes twice would be copied from the reply itself."""
    options = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, s.options, strict=False))
    asked = rng.permutation(len(s.options))[:3]
    replies = [f"Next is the {s.options[i].split()[2]}.</think><answer>{LETTERS[i]}</answer>" for i in asked]
    return Lesson(f"\n{options}\n", "".join(replies))


def question(s: Sample, care: float) -> Lesson:
    """The benchmark's question and a reasoned answer; with little `care` in [0, 1) the answer lacks its tags."""
    careless = care < (0.05 if s.scene.filmed else 0.6)
    reply = f"<think>{s.scene.reasoning}</think>The answer is {s.letter}." if careless else s.response
    return Lesson(format_question(s.question, s.options), reply, s.clip, s.observation[None])


def lessons(step: int, seed: int) -> list[list[Lesson]]:
    """The batches of one step, each of one kind."""
    rng = np.random.default_rng([WORLDS + seed, step])

    def drawn(count: int) -> list[Sample]:
        return [sample(rng, "train", number) for number in range(count)]

    look_ups = [look_up(s, rng) for s in drawn(48)]
    if step < GLANCES:
        return [[glance(s) for s in drawn(32)], look_ups]
    if step < CAPTIONS:
        return [[caption(s) for s in drawn(32)], look_ups]
    return [[question(s, rng.random()) for s in drawn(32)], look_ups[:16]]


def collate(batch: Sequence[Lesson], tokenizer: PreTrainedTokenizerBase, config: Qwen2VLConfig) -> dict[str, Tensor]:
    """The model's arguments for a batch: padded on the right, with the loss on the replies alone."""
    rows, labels = [], []
    pixels: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for lesson in batch:
        prompt, shown = _prompt(lesson, tokenizer)
        for kind, (patches, grid) in shown.items():
            pixels.setdefault(kind, []).append((patches, torch.tensor(grid)))
        asked, replied = tokenizer.encode(prompt), tokenizer.encode(f"{lesson.reply}<|im_end|>")
        rows.append(torch.tensor(asked + replied))
        labels.append(torch.tensor([-100] * len(asked) + replied))
    ids = pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
    tensors = {
        "input_ids": ids,
        "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
        "mm_token_type_ids": (ids == config.image_token_id).int() + 2 * (ids == config.video_token_id).int(),
    }
    for kind, name in (("video", "pixel_values_videos"), ("image", "pixel_values")):
        if kind in pixels:
            tensors[name] = torch.cat([patches for patches, _ in pixels[kind]])
            tensors[f"{kind}_grid_thw"] = torch.stack([grid for _, grid in pixels[kind]])
    return tensors


def _prompt(lesson: Lesson, tokenizer: PreTrainedTokenizerBase) -> tuple[str, dict[str, tuple[Tensor, tuple]]]:
    """The chat up to the reply, one placeholder for each visual token; and each medium's patches and grid."""
    media = {"video": lesson.video, "image": lesson.image}
    shown = {kind: patchify(torch.from_numpy(frames)) for kind, frames in media.items() if frames is not None}
    content = [{"type": kind} for kind in shown] + [{"type": "text", "text": lesson.text}]
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    for kind, (patches, _) in shown.items():
        chat = chat.replace(f"<|{kind}_pad|>", f"<|{kind}_pad|>" * (len(patches) // 4))
    return chat, shown
