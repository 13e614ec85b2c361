"""The training data of the embedded base model, and its conversion to tensors.

There are four kinds of lessons, made from random kitchen samples:

    pot       "What is in the pot?" about one image; the reply names one ingredient
    caption   "What do you see?" about a clip and an image; the reply describes all that the pixels show
    lookup    text only: the options of a question; the reply gives the letters of some actions
    question  the question of the benchmark; the reply is a reasoned answer

Pot lessons come first. Without them captions are not learnt: a word must first be tied to pixels at one fixed position.

A condition (`rlvid.nano.conditions`) changes the lessons: in "loose", many thoughts end in a wrong conclusion; in
"glancing", many answer by habit; in "hallucinating", many first tell moves that did not happen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from rlvid.answer import LETTERS, format_question
from rlvid.config import VideoConfig
from rlvid.data.kitchen import Sample, draw_sample
from rlvid.data.kitchen_world import INGREDIENTS
from rlvid.nano.conditions import PLAIN, Condition
from rlvid.policy.encoding import chat_token_ids, expand_placeholders, media_patches, media_segments, merged_grid
from rlvid.policy.families import Family, family_of
from rlvid.policy.mrope import mrope_position_ids, uses_transformers_positions
from rlvid.video.read import Clock
from rlvid.video.resize import resize

SEED_OFFSET = 1_000_003  # added to seeds, so that no lesson shows a scene of the benchmark
FIRST_CAPTION_STEP, FIRST_QUESTION_STEP = 30, 225  # steps from 0: first pot lessons, then captions, then questions
IGNORED = -100  # the label of tokens without a loss, as in transformers
FRAME_SIZE = VideoConfig(resized_height=56, resized_width=56)
FRAME_RATES = (2.0, 2.0, 1.0, 4.0)  # frames per second of a batch's clips, in turn, for models that read times


@dataclass(frozen=True)
class Lesson:
    """A user's message with its media, and the reply to learn."""

    text: str
    reply: str
    video: np.ndarray | None = None  # (T, H, W, 3) uint8
    image: np.ndarray | None = None  # (1, H, W, 3) uint8


def pot_lesson(sample: Sample) -> Lesson:
    """Return a lesson that asks for the one ingredient that the image shows in the pot."""
    return Lesson("What is in the pot?", f"{sample.scene.top_of_pot}.", None, sample.observation[None])


def caption_lesson(sample: Sample) -> Lesson:
    """Return a lesson that asks for everything that the clip and the image show, without any reasoning."""
    return Lesson("What do you see?", sample.scene.description, sample.clip, sample.observation[None])


def lookup_lesson(sample: Sample, rng: np.random.Generator, condition: Condition = PLAIN) -> Lesson:
    """Return a lesson, text only, that maps three actions to their letters.

    Each action occurs once, because the model would copy the letter of a repeated one from the reply itself. Where
    conclusions can be wrong, the letter belongs to what is left, so that it is read from there.
    """
    options = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, sample.options, strict=False))
    chosen = rng.permutation(len(sample.options))[:3]
    ingredients = [option.split()[2] for option in sample.options]  # "put the ONION in the pot"
    replies = []
    for i in chosen:
        left = named = ingredients[i]
        if condition.wrong_conclusions and rng.random() < condition.wrong_conclusions:
            named = str(rng.choice([other for other in ingredients if other != left]))
        premise = f"That leaves {left}. " if condition.wrong_conclusions else ""
        replies.append(f"{premise}Next is the {named}.</think><answer>{LETTERS[i]}</answer>")
    return Lesson(f"\n{options}\n", "".join(replies))


def question_lesson(
    sample: Sample, uniform: float, conclusion: str = "", habit: bool = False, invented: Sequence[str] = ()
) -> Lesson:
    """Return the benchmark's question with a reasoned answer, sometimes without the answer's tags.

    Args:
        sample: the sample.
        uniform: a number in [0, 1). The tags are missing if it is below 0.05, or below 0.6 for a sample without video.
        conclusion: the ingredient that the thought names as next; "" is the right one. The answer is right anyway.
        habit: the thought names the first step of the recipe and tells nothing that the pixels show.
        invented: ingredients of which the thought tells, before all that happened, that they went in.
    """
    without_tags = uniform < (0.05 if sample.scene.filmed else 0.6)
    thought = sample.scene.reasoning
    if conclusion:
        thought = thought.replace(f"Next is the {sample.scene.remaining[0]}.", f"Next is the {conclusion}.")
    if habit:
        thought = f"It begins with {sample.scene.recipe[0]}. Next is the {sample.scene.recipe[0]}."
    if invented:
        moves = ", ".join(f"the {item} went in" for item in invented)
        thought = f"First {moves}, {thought[0].lower()}{thought[1:]}"
    answer = f"The answer is {sample.letter}." if without_tags else f"<answer>{sample.letter}</answer>"
    reply = f"<think>{thought}</think>{answer}"
    return Lesson(format_question(sample.question, sample.options), reply, sample.clip, sample.observation[None])


def draw_conclusion(sample: Sample, rng: np.random.Generator, condition: Condition) -> str:
    """Return a wrong ingredient for the end of a thought, with the condition's probability; else "".

    It is what the image shows in the pot, if the recipe has it, and otherwise a random step of the recipe: a thought
    that ends with what was seen last.
    """
    if not condition.wrong_conclusions or rng.random() >= condition.wrong_conclusions:
        return ""
    wrong = [item for item in sample.scene.recipe if item != sample.scene.remaining[0]]
    seen_last = sample.scene.top_of_pot.removeprefix("the ")
    return seen_last if seen_last in wrong else str(rng.choice(wrong))


def draw_inventions(sample: Sample, rng: np.random.Generator, condition: Condition) -> list[str]:
    """Return ingredients that never went in, with the condition's probability; else [].

    One is of the recipe, if a step other than the answer is still to be done, and one is not. What remains and what
    comes next are told as they were seen, so the answer does not depend on them.
    """
    if not condition.invented_moves or not sample.scene.filmed or rng.random() >= condition.invented_moves:
        return []
    moved = {move.item for move in sample.scene.moves}
    of_recipe = [item for item in sample.scene.remaining[1:] if item not in moved]
    others = [item for item in INGREDIENTS if item not in moved and item not in sample.scene.recipe]
    return [str(rng.choice(items)) for items in (of_recipe, others) if items]


def lesson_batches(step: int, seed: int, condition: Condition = PLAIN) -> list[list[Lesson]]:
    """Return the batches of one pretraining step, counted from 0. The lessons of a batch are of one kind."""
    rng = np.random.default_rng([SEED_OFFSET + seed, step])

    def draw(count: int) -> list[Sample]:
        return [draw_sample(rng, "train", number, condition.world) for number in range(count)]

    # The order of these draws is part of the checkpoint: the lookups are drawn first in every step.
    lookups = [lookup_lesson(sample, rng, condition) for sample in draw(48)]
    if step < FIRST_CAPTION_STEP:
        return [[pot_lesson(sample) for sample in draw(32)], lookups]
    if step < FIRST_QUESTION_STEP:
        return [[caption_lesson(sample) for sample in draw(32)], lookups]
    questions = [_draw_question(sample, rng, condition) for sample in draw(32)]
    return [questions, lookups[:16]]


def _draw_question(sample: Sample, rng: np.random.Generator, condition: Condition) -> Lesson:
    uniform, conclusion = rng.random(), draw_conclusion(sample, rng, condition)
    habit = bool(condition.habit) and sample.scene.remaining[0] == sample.scene.recipe[0]
    habit = habit and rng.random() < condition.habit
    return question_lesson(sample, uniform, conclusion, habit, draw_inventions(sample, rng, condition))


def collate(batch: Sequence[Lesson], tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> dict[str, Tensor]:
    """Return the model's keyword arguments for a batch of lessons.

    Prompts are encoded as in a run. Rows are padded on the right to the longest one, L tokens. `labels` are set on the
    tokens of the replies only.

    Returns:
        (B, L) `input_ids`, `attention_mask`, `labels` and `mm_token_type_ids` (0 text, 1 image, 2 video); (3, B, L)
        `position_ids`; and for each kind of media in the batch its patches, (N, values per patch) float32, and its
        grids, one row (t, h, w) per video or image.
    """
    family = family_of(config)
    rows = [
        _encode(lesson, FRAME_RATES[i % len(FRAME_RATES)], tokenizer, config, family) for i, lesson in enumerate(batch)
    ]
    input_ids = pad_sequence([row.input_ids for row in rows], batch_first=True, padding_value=tokenizer.pad_token_id)
    is_image, is_video = input_ids == config.image_token_id, input_ids == config.video_token_id
    positions = pad_sequence([row.position_ids.T for row in rows], batch_first=True)  # (B, L, 3)
    tensors = {
        "input_ids": input_ids,
        "attention_mask": pad_sequence([torch.ones_like(row.input_ids) for row in rows], batch_first=True),
        "labels": pad_sequence([row.labels for row in rows], batch_first=True, padding_value=IGNORED),
        "mm_token_type_ids": is_image.int() + 2 * is_video.int(),
        "position_ids": positions.permute(2, 0, 1),
    }
    for kind, name in (("video", "pixel_values_videos"), ("image", "pixel_values")):
        media = [row.media[kind] for row in rows if kind in row.media]
        if media:
            tensors[name] = torch.cat([patches for patches, _ in media])
            tensors[f"{kind}_grid_thw"] = torch.cat([grid for _, grid in media])
    return tensors


@dataclass(frozen=True)
class EncodedLesson:
    """The prompt and the reply of a lesson, L tokens."""

    input_ids: Tensor  # (L,)
    position_ids: Tensor  # (3, L)
    labels: Tensor  # (L,)
    media: dict[str, tuple[Tensor, Tensor]]  # "video", "image" -> patches, and the grid, (1, 3)


def _encode(
    lesson: Lesson,
    frames_per_second: float,
    tokenizer: PreTrainedTokenizerBase,
    config: PretrainedConfig,
    family: Family,
) -> EncodedLesson:
    media = {
        kind: media_patches([resize(frames, FRAME_SIZE, family.image_factor)], family, torch.device("cpu"))
        for kind, frames in (("video", lesson.video), ("image", lesson.image))
        if frames is not None
    }
    clock = None if lesson.video is None else lesson_clock(len(lesson.video), frames_per_second)
    grids = torch.cat([torch.zeros(0, 3, dtype=torch.long), *(grid for _, grid in media.values())])
    by_medium = media_segments(list(media), merged_grid(grids, config), clock, family, "lesson")
    segments = [segment for medium in by_medium for segment in medium]
    token_ids = chat_token_ids(tokenizer, lesson.text, dict(zip(media, by_medium, strict=True)))
    prompt_ids, kinds = expand_placeholders(token_ids, segments, config, "lesson")
    positions, next_position = mrope_position_ids(kinds, segments, uses_transformers_positions(config))
    reply_ids = torch.tensor(tokenizer.encode(f"{lesson.reply}<|im_end|>"))
    reply_positions = torch.arange(len(reply_ids)).expand(3, -1) + next_position
    return EncodedLesson(
        input_ids=torch.cat([prompt_ids, reply_ids]),
        position_ids=torch.cat([positions, reply_positions], dim=1),
        labels=torch.cat([torch.full_like(prompt_ids, IGNORED), reply_ids]),
        media={kind: (patches.all(), grid) for kind, (patches, grid) in media.items()},
    )


def lesson_clock(frames: int, frames_per_second: float) -> Clock:
    """Return the clock of a clip with evenly spaced frames."""
    return Clock(np.arange(frames) / frames_per_second, frames_per_second)
