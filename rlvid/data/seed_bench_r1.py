"""SEED-Bench-R1 (arXiv:2503.24376) in its published layout, and any data set written in it.

    ROOT/annotations/*.jsonl             one record per line; see SPLITS
    ROOT/videos/SOURCE/NAME.mp4          the progress so far
    ROOT/images/SOURCE/NAME.png          the current observation

Training records have an answer and several negatives: three are drawn and the four options ordered by hashes of the
data seed and the sample's id, never by a global generator. Validation records keep their choices in the file's order.
Whether the media exist is not asked here: the decoder says so when it needs them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from rlvid.answer import LETTERS, parse
from rlvid.data.records import AnnotationRecord, Source, lettered
from rlvid.errors import UserError
from rlvid.registry import suggest
from rlvid.types import Prompt
from rlvid.utils.hashing import uniform_hash
from rlvid.utils.text import same_text

SPLITS = {
    "train": "training_6k.jsonl",
    "train_cot": "training_with_cot_6k.jsonl",
    "L1": "validation_L1.jsonl",
    "L2": "validation_L2.jsonl",
    "L3": "validation_L3.jsonl",
}
META = ("task_goal", "video_id", "video_source", "scenario", "task_progress_metadata")


def load(root: Path, split: str, data_seed: int = 0) -> list[Prompt]:
    """The prompts of a split, in the file's order; raises UserError with file, line and field."""
    if split not in SPLITS:
        raise UserError(f"no split {split!r}.{suggest(split, SPLITS)}")
    one = source(root, split, data_seed)
    if not one.file.is_file():
        raise UserError(
            f"{one.file}: no such file; split {split!r} is read from it. To get it: rlvid data get seed_bench_r1 {root}"
        )
    return one.prompts()


def source(root: Path, split: str, data_seed: int = 0) -> Source:
    """A split's file and how it is read."""
    root = Path(root).expanduser().resolve()
    make = demonstration if split == "train_cot" else partial(question, split=split, data_seed=data_seed)
    return Source(root / "annotations" / SPLITS[split], root, make, "sample_id")


def question(record: AnnotationRecord, split: str, data_seed: int) -> Prompt:
    """A training or validation record as a prompt."""
    progress = record.get("task_progress_metadata", list)
    source, clip, still = (record.get(f) for f in ("video_source", "video_basename", "current_observation_basename"))
    options, answer = _choices(record) if "golden_choice_idx" in record.fields else _drawn(record, data_seed)
    return Prompt(
        id=record.name("sample_id"),
        question=record.get("question"),
        options=options,
        answer=answer,
        video=record.media("video_basename", "videos", source, clip) if progress else None,
        image=record.media("current_observation_basename", "images", source, still),
        level=split,
        domain=record.get("domain") if record.fields.get("domain") else "Daily life",
        narrations=_narrations(record),
        meta=_meta(record),
    )


def demonstration(record: AnnotationRecord) -> Prompt:
    """A record of the CoT file, a chat and a reasoned response, as a prompt that can be imitated."""
    parts: dict[str, str] = {}
    for message in record.get("prompt", list):
        content = record.check("prompt", message, dict).get("content")
        for part in record.check("prompt.content", content, list):
            kinds = {k: v for k, v in record.check("prompt.content", part, dict).items() if v is not None}
            parts |= {k: record.check(f"prompt.{k}", kinds[k]) for k in ("video", "image", "text") if k in kinds}
    if "text" not in parts:
        raise record.error("prompt", 'has no {"type": "text"} part')
    asked, options = lettered(record, "prompt.text", parts["text"])
    response = record.get("response")
    answer = parse(response, options)
    if answer is None:
        raise record.error("response", f"must name one option in one <answer> block, not {response[-60:]!r}")
    return Prompt(
        id=record.name("sample_id") if "sample_id" in record.fields else f"line-{record.number}",
        question=asked,
        options=options,
        answer=answer,
        video=record.media("prompt.video", parts["video"]) if "video" in parts else None,
        image=record.media("prompt.image", parts["image"]) if "image" in parts else None,
        domain="Daily life",
        narrations=_narrations(record) if "task_progress_metadata" in record.fields else (),
        demonstration=response,
        meta=_meta(record),
    )


def _choices(record: AnnotationRecord) -> tuple[tuple[str, ...], str]:
    """The four choices as the file has them, and the answer key, which must agree with the answer's text."""
    options = tuple(record.get(f"choice_{letter}") for letter in "abcd")
    letter, text = record.get("golden_choice_idx"), record.get("answer")
    if letter not in tuple("ABCD"):
        raise record.error("golden_choice_idx", f"must be A, B, C or D, not {letter!r}")
    chosen = options["ABCD".index(letter)]
    if not same_text(chosen, text):
        raise record.error("golden_choice_idx", f"{letter} is {chosen!r}, but answer is {text!r}")
    return options, letter


def _drawn(record: AnnotationRecord, data_seed: int) -> tuple[tuple[str, ...], str]:
    """The answer among three of the negatives; both the draw and the order are hashes of seed, sample and text."""
    answer = record.get("answer")
    different: list[str] = []
    for text in record.get("negative_answers", list):
        if not any(same_text(record.check("negative_answers", text), other) for other in (answer, *different)):
            different.append(text)
    if len(different) < 3:
        raise record.error("negative_answers", f"needs 3 that differ from the answer and each other, not {different}")
    negatives = sorted(different, key=lambda text: uniform_hash(data_seed, "negative", record.name("sample_id"), text))[
        :3
    ]
    options = sorted(
        (answer, *negatives), key=lambda text: uniform_hash(data_seed, "place", record.name("sample_id"), text)
    )
    return tuple(options), LETTERS[options.index(answer)]


def _narrations(record: AnnotationRecord) -> tuple[str, ...]:
    steps = record.get("task_progress_metadata", list)
    field = "task_progress_metadata.narration_text"
    return tuple(record.check(field, record.check(field, step, dict).get("narration_text")) for step in steps)


def _meta(record: AnnotationRecord) -> dict[str, Any]:
    return {field: record.fields[field] for field in META if field in record.fields}
