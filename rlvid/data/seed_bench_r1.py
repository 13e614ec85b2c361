"""SEED-Bench-R1 (arXiv:2503.24376) in its published layout, and any data set written in it.

    ROOT/annotations/*.jsonl             one record per line; see SPLITS
    ROOT/videos/SOURCE/NAME.mp4          the progress so far
    ROOT/images/SOURCE/NAME.png          the current observation

Training records have an answer and several negatives: three are drawn and the four options ordered by hashes of the
data seed and the sample's id, never by a global generator. Validation records keep their choices in the file's order.
Whether the media exist is not asked here: the decoder says so when it needs them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlvid.answer import LETTERS, parse
from rlvid.chance import hash01
from rlvid.data.noise_labels import same
from rlvid.errors import UserError
from rlvid.resolve import suggest
from rlvid.types import Prompt

SPLITS = {
    "train": "training_6k.jsonl",
    "train_cot": "training_with_cot_6k.jsonl",
    "L1": "validation_L1.jsonl",
    "L2": "validation_L2.jsonl",
    "L3": "validation_L3.jsonl",
}
META = ("task_goal", "video_id", "video_source", "scenario", "task_progress_metadata")
HOME = "https://huggingface.co/datasets/TencentARC/SEED-Bench-R1"


def load(root: Path, split: str, data_seed: int = 0) -> list[Prompt]:
    """The prompts of a split, in the file's order; raises UserError with file, line and field."""
    if split not in SPLITS:
        raise UserError(f"no split {split!r}.{suggest(split, SPLITS)}")
    root = Path(root).expanduser().resolve()
    file = root / "annotations" / SPLITS[split]
    if not file.is_file():
        raise UserError(f"{file}: no such file; split {split!r} is read from it. To get it: git clone {HOME} {root}")
    prompts: dict[str, Prompt] = {}
    for record in _records(file, root):
        prompt = demonstration(record) if split == "train_cot" else question(record, split, data_seed)
        if prompt.id in prompts:
            raise record.error("sample_id", f"{prompt.id} stands on an earlier line too")
        prompts[prompt.id] = prompt
    if not prompts:
        raise UserError(f"{file}: holds no record; get it again from {HOME}")
    return list(prompts.values())


@dataclass(frozen=True)
class Record:
    """One line of an annotation file; its errors say where it stands."""

    where: str  # file:line
    root: Path
    fields: Mapping[str, Any]

    def error(self, field: str, what: str) -> UserError:
        return UserError(f"{self.where}: {field}: {what}")

    def get(self, field: str, kind: type = str) -> Any:
        """A field of a type; a text must not be blank."""
        if field not in self.fields:
            raise self.error(field, f"missing; the record has {', '.join(self.fields) or 'no fields'}")
        return self.check(field, self.fields[field], kind)

    def check(self, field: str, value: Any, kind: type = str) -> Any:
        if type(value) is not kind:
            raise self.error(field, f"must be {kind.__name__}, not {json.dumps(value)[:80]}")
        if kind is str and (not str(value).strip() or "\0" in str(value)):
            raise self.error(field, "is blank or holds a zero byte")
        return value

    @property
    def id(self) -> str:
        kind = int if type(self.fields.get("sample_id")) is int else str
        return str(self.get("sample_id", kind))

    def media(self, field: str, *parts: str) -> str:
        """The absolute path of a file under the root; one that would lead elsewhere is refused."""
        path = Path(*parts)
        if path.is_absolute() or ".." in path.parts or not (self.root / path).resolve().is_relative_to(self.root):
            raise self.error(field, f"{path} leads out of {self.root}; media must lie in the data's own folder")
        return str(self.root / path)


def question(record: Record, split: str, data_seed: int) -> Prompt:
    """A training or validation record as a prompt."""
    progress = record.get("task_progress_metadata", list)
    source, clip, still = (record.get(f) for f in ("video_source", "video_basename", "current_observation_basename"))
    options, answer = _choices(record) if "golden_choice_idx" in record.fields else _drawn(record, data_seed)
    return Prompt(
        id=record.id,
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


def demonstration(record: Record) -> Prompt:
    """A record of the CoT file, a chat and a reasoned response, as a prompt that can be imitated."""
    parts: dict[str, str] = {}
    for message in record.get("prompt", list):
        content = record.check("prompt", message, dict).get("content")
        for part in record.check("prompt.content", content, list):
            kinds = {k: v for k, v in record.check("prompt.content", part, dict).items() if v is not None}
            parts |= {k: record.check(f"prompt.{k}", kinds[k]) for k in ("video", "image", "text") if k in kinds}
    if "text" not in parts:
        raise record.error("prompt", 'has no {"type": "text"} part')
    asked, options = _split(record, parts["text"])
    response = record.get("response")
    answer = parse(response, options)
    if answer is None:
        raise record.error("response", f"must name one option in one <answer> block, not {response[-60:]!r}")
    return Prompt(
        id=record.id if "sample_id" in record.fields else f"line-{record.where.rpartition(':')[2]}",
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


def _records(file: Path, root: Path) -> Iterator[Record]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{file}:{number}"
            try:
                fields = json.loads(line.decode()) if line.strip() else None
                json.dumps(fields, ensure_ascii=False).encode()  # an escape may smuggle in half a character
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where}: no JSON in UTF-8: {error}; mend or remove this line") from error
            if isinstance(fields, dict):
                yield Record(where, root, fields)
            elif line.strip():
                raise UserError(f"{where}: must be one JSON object, not {str(fields)[:60]}")


def _choices(record: Record) -> tuple[tuple[str, ...], str]:
    """The four choices as the file has them, and the answer key, which must agree with the answer's text."""
    options = tuple(record.get(f"choice_{letter}") for letter in "abcd")
    letter, text = record.get("golden_choice_idx"), record.get("answer")
    if letter not in tuple("ABCD"):
        raise record.error("golden_choice_idx", f"must be A, B, C or D, not {letter!r}")
    chosen = options["ABCD".index(letter)]
    if not same(chosen, text):
        raise record.error("golden_choice_idx", f"{letter} is {chosen!r}, but answer is {text!r}")
    return options, letter


def _drawn(record: Record, data_seed: int) -> tuple[tuple[str, ...], str]:
    """The answer among three of the negatives; both the draw and the order are hashes of seed, sample and text."""
    answer = record.get("answer")
    different: list[str] = []
    for text in record.get("negative_answers", list):
        if not any(same(record.check("negative_answers", text), other) for other in (answer, *different)):
            different.append(text)
    if len(different) < 3:
        raise record.error("negative_answers", f"needs 3 that differ from the answer and each other, not {different}")
    negatives = sorted(different, key=lambda text: hash01(data_seed, "negative", record.id, text))[:3]
    options = sorted((answer, *negatives), key=lambda text: hash01(data_seed, "place", record.id, text))
    return tuple(options), LETTERS[options.index(answer)]


def _narrations(record: Record) -> tuple[str, ...]:
    steps = record.get("task_progress_metadata", list)
    field = "task_progress_metadata.narration_text"
    return tuple(record.check(field, record.check(field, step, dict).get("narration_text")) for step in steps)


def _meta(record: Record) -> dict[str, Any]:
    return {field: record.fields[field] for field in META if field in record.fields}


def _split(record: Record, text: str) -> tuple[str, tuple[str, ...]]:
    """A user's text becomes the question and the options: the lines "A. ..", "B. .." and so on."""
    lines = text.split("\n")
    starts = [i for i, line in enumerate(lines) if line.startswith("A. ")]
    options: list[str] = []
    for line in lines[starts[-1] :] if starts else []:
        if not line.startswith(f"{LETTERS[len(options)]}. "):
            break
        options.append(record.check("prompt.text", line[3:].strip()))
    if len(options) < 2:
        raise record.error("prompt.text", f"must hold lines 'A. ..' and 'B. ..', not {text[:80]!r}")
    return "\n".join(lines[: starts[-1]]).strip(), tuple(options)
