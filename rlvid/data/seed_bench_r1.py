"""SEED-Bench-R1 (arXiv:2503.24376) in its published layout, and any data set in the same layout.

    ROOT/annotations/*.jsonl             one record per line; see SPLITS
    ROOT/videos/SOURCE/NAME.mp4          the progress so far
    ROOT/images/SOURCE/NAME.png          the current observation

Training records have an answer and several negatives. Three negatives are drawn, and the four options are ordered, by
hashes of the data seed and the sample id; no global random state is used. Validation records keep the order of the
file. The media need not exist when the annotations are read: the decoder reports a missing file when it needs it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rlvid.answer import LETTERS, parse
from rlvid.data.records import AnnotationFile, AnnotationRecord, split_lettered_options
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
    "dev": "validation_dev.jsonl",  # not published; the embedded benchmark has it
}
PUBLISHED_LEVELS = ("L1", "L2", "L3")
META_FIELDS = ("task_goal", "video_id", "video_source", "scenario", "task_progress_metadata")
DEFAULT_DOMAIN = "Daily life"  # of all records but those of L3


def load(root: Path, split: str, data_seed: int = 0) -> list[Prompt]:
    """Return the prompts of a split, in the order of the file.

    Raises:
        UserError: if the split or its file does not exist, or with file, line and field if a record is malformed.
    """
    if split not in SPLITS:
        raise UserError(f"no split {split!r}.{suggest(split, SPLITS)}")
    file = annotation_file(root, split, data_seed)
    if not file.path.is_file():
        raise UserError(
            f"{file.path}: no such file, but split {split!r} is read from it. "
            f"To download it: rlvid data get seed_bench_r1 {root}"
        )
    return file.prompts()


def annotation_file(root: Path, split: str, data_seed: int = 0) -> AnnotationFile:
    """Return the annotation file of a split, and its conversion to prompts."""
    root = Path(root).expanduser().resolve()
    to_prompt = partial(question_to_prompt, split=split, data_seed=data_seed)
    return AnnotationFile(
        root / "annotations" / SPLITS[split],
        root,
        demonstration_to_prompt if split == "train_cot" else to_prompt,
        id_field="sample_id",
    )


def question_to_prompt(record: AnnotationRecord, split: str, data_seed: int) -> Prompt:
    """Convert a training or validation record to a prompt. Raises UserError with file, line and field."""
    progress = record.get("task_progress_metadata", list)
    source, video, image = (
        record.get(field) for field in ("video_source", "video_basename", "current_observation_basename")
    )
    is_validation = "golden_choice_idx" in record.fields
    if not is_validation and split != "train":
        raise record.error(
            "golden_choice_idx", "missing: a validation record has its four options and the right letter"
        )
    options, answer = _file_options(record) if is_validation else _drawn_options(record, data_seed)
    return Prompt(
        id=record.get_text("sample_id"),
        question=record.get("question"),
        options=options,
        answer=answer,
        video=record.media_path("video_basename", "videos", source, video) if progress else None,
        image=record.media_path("current_observation_basename", "images", source, image),
        level=split,
        domain=record.get("domain") if record.fields.get("domain") else DEFAULT_DOMAIN,
        narrations=_narrations(record),
        meta=record.present(META_FIELDS),
    )


def demonstration_to_prompt(record: AnnotationRecord) -> Prompt:
    """Convert a record of the CoT file, a chat and a reasoned response, to a prompt with a demonstration.

    Raises UserError with file, line and field.
    """
    parts = _chat_parts(record)
    if "text" not in parts:
        raise record.error("prompt", 'has no {"type": "text"} part')
    question, options = split_lettered_options(record, "prompt.text", parts["text"])
    response = record.get("response")
    answer = parse(response, options)
    if answer is None:
        raise record.error("response", f"must name one option in one <answer> block, not {response[-60:]!r}")
    return Prompt(
        id=record.get_text("sample_id") if "sample_id" in record.fields else f"line-{record.number}",
        question=question,
        options=options,
        answer=answer,
        video=record.media_path("prompt.video", parts["video"]) if "video" in parts else None,
        image=record.media_path("prompt.image", parts["image"]) if "image" in parts else None,
        domain=DEFAULT_DOMAIN,
        narrations=_narrations(record) if "task_progress_metadata" in record.fields else (),
        demonstration=response,
        meta=record.present(META_FIELDS),
    )


def _chat_parts(record: AnnotationRecord) -> dict[str, str]:
    """Return the "video", the "image" and the "text" of a chat; if there are several of a kind, the last one.

    A part has the form {"type": "text", "text": "..", "image": null}; keys with null count as missing.
    """
    parts: dict[str, str] = {}
    for message in record.get("prompt", list):
        content = record.validate("prompt", message, dict).get("content")
        for part in record.validate("prompt.content", content, list):
            fields = record.validate("prompt.content", part, dict)
            for kind in ("video", "image", "text"):
                if fields.get(kind) is not None:
                    parts[kind] = record.validate(f"prompt.{kind}", fields[kind])
    return parts


def _file_options(record: AnnotationRecord) -> tuple[tuple[str, ...], str]:
    """Return the four options in the order of the file, and the right letter, which must agree with the answer."""
    options = tuple(record.get(f"choice_{letter}") for letter in "abcd")
    letter, text = record.get("golden_choice_idx"), record.get("answer")
    if letter not in tuple("ABCD"):
        raise record.error("golden_choice_idx", f"must be A, B, C or D, not {letter!r}")
    option = options["ABCD".index(letter)]
    if not same_text(option, text):
        raise record.error("golden_choice_idx", f"{letter} is {option!r}, but answer is {text!r}")
    return options, letter


def _drawn_options(record: AnnotationRecord, data_seed: int) -> tuple[tuple[str, ...], str]:
    """Draw three of the negatives and order them with the answer; return the options and the right letter.

    Both the draw and the order are hashes of the data seed, the sample id and the text.
    """
    answer, sample_id = record.get("answer"), record.get_text("sample_id")
    candidates: list[str] = []  # negatives that differ from the answer and from each other
    for text in record.get_texts("negative_answers"):
        if not any(same_text(text, other) for other in (answer, *candidates)):
            candidates.append(text)
    if len(candidates) < 3:
        raise record.error("negative_answers", f"needs 3 that differ from the answer and each other, not {candidates}")

    def draw_key(text: str) -> float:
        return uniform_hash(data_seed, "negative", sample_id, text)

    def order_key(text: str) -> float:
        return uniform_hash(data_seed, "place", sample_id, text)

    negatives = sorted(candidates, key=draw_key)[:3]
    options = sorted((answer, *negatives), key=order_key)
    return tuple(options), LETTERS[options.index(answer)]


def _narrations(record: AnnotationRecord) -> tuple[str, ...]:
    """Return the narrations of the record's progress, in order."""
    name = "task_progress_metadata.narration_text"
    steps = [record.validate(name, step, dict) for step in record.get("task_progress_metadata", list)]
    return tuple(record.validate(name, step.get("narration_text")) for step in steps)
