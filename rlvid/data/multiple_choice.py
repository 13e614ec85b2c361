"""Any benchmark of videos or images, questions and options, by a map of its fields in a TOML file.

    layout = "multiple_choice"
    path = "questions.jsonl"            # or .json, one array; relative to this file, as all media are
    question = "question"
    options = "candidates"              # a list, {A = .., B = ..}, or several fields; left out: the question's lines;
                                        # []: there are none
    answer = "answer"                   # a letter, a place counted from 0, an option's text, or "B. text";
                                        # without options any text or number (rewards/open_ended.py)
    video = "videos/{video_id}.mp4"     # a path with the record's fields in it; `image` too;
                                        # of its seconds, those that are asked about: ".mp4#t={start},{end}"
    id = "question_id"                  # left out: the record's place in the file
    level = "task"                      # a field; left out: this file's name
    domain = "category"                 # a field
    span = "when"                       # [start, end] in seconds (rewards/grounding_tiou.py)
    box = "bbox"                        # [x1, y1, x2, y2] (rewards/grounding_box_iou.py)
    where = {question_type = "multiple-choice"}    # only such records are asked

A record whose clip is null has none. What the map names and a record lacks is an error, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlvid.answer import LETTERS, parse
from rlvid.data.records import AnnotationRecord, Source, lettered
from rlvid.types import Prompt
from rlvid.video.read import split_time_span

_LETTERED = re.compile(r"\s*\(?([A-Z])[.):]\s*(.*)", re.DOTALL)  # "A. open tap", "(A) open tap"
_FIELD = re.compile(r"{(\w+)}")


@dataclass(frozen=True)
class Fields:
    """What stands where in a benchmark's records."""

    path: str
    question: str
    answer: str
    options: str | tuple[str, ...] = ""
    video: str = ""
    image: str = ""
    id: str = ""
    level: str = ""
    domain: str = ""
    span: str = ""
    box: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)

    def source(self, root: Path, name: str) -> Source:
        """The file of questions and how it is read; `name` is the level of a benchmark without levels."""

        def prompt(record: AnnotationRecord) -> Prompt | None:
            return self.prompt(record, name)

        return Source(root / self.path, root, prompt, self.id or "line")

    def prompt(self, record: AnnotationRecord, name: str) -> Prompt | None:
        """A record as a prompt, or None where `where` leaves it out."""
        if any(record.fields.get(key) != value for key, value in self.where.items()):
            return None
        text = record.get(self.question)
        asked, options = lettered(record, self.question, text) if self.options == "" else (text, self._options(record))
        video = self._media(record, "video", self.video)
        return Prompt(
            id=record.name(self.id) if self.id else str(record.number),
            question=asked,
            options=options,
            answer=self._answer(record, options),
            video=video,
            image=self._media(record, "image", self.image),
            level=record.name(self.level) if self.level else name,
            domain=record.name(self.domain) if self.domain else "",
            meta=({"video_id": Path(split_time_span(video)[0]).stem} if video else {}) | self._places(record),
        )

    def _places(self, record: AnnotationRecord) -> dict[str, tuple[float, ...]]:
        """Where in time and in the picture the answer lies, as far as the map says."""
        found = {}
        for kind, name, size in (("span", self.span, 2), ("box", self.box, 4)):
            if not name:
                continue
            numbers = tuple(record.check(name, number, float) for number in record.get(name, list))
            if len(numbers) != size or not all(a < b for a, b in zip(numbers, numbers[size // 2 :], strict=False)):
                raise record.error(name, f"{kind} must be {size} numbers, each end after its start, not {numbers}")
            found[kind] = numbers
        return found

    def _options(self, record: AnnotationRecord) -> tuple[str, ...]:
        if isinstance(self.options, tuple):
            return tuple(record.name(option) for option in self.options)
        given = record.fields.get(self.options)
        listed = list(given.values()) if isinstance(given, dict) else record.get(self.options, list)
        while listed and listed[-1] in (None, ""):  # a table from A to E may hold fewer
            listed = listed[:-1]
        if not 2 <= len(listed) <= len(LETTERS) or (isinstance(given, dict) and "".join(given) not in LETTERS):
            raise record.error(self.options, f"needs 2 to {len(LETTERS)} options, lettered from A if at all")
        return bare(tuple(record.check(self.options, option) for option in listed))

    def _answer(self, record: AnnotationRecord, options: tuple[str, ...]) -> str:
        given = record.fields.get(self.answer)
        if not options:
            return str(given) if type(given) is float else record.name(self.answer)
        if type(given) is int and 0 <= given < len(options):
            return LETTERS[given]
        letter = parse(f"<answer>{given}</answer>", options) if isinstance(given, str) else None
        if letter is None:
            record.name(self.answer)
            raise record.error(self.answer, f"{str(given)[:60]!r} names not one of the {len(options)} options")
        return letter

    def _media(self, record: AnnotationRecord, kind: str, template: str) -> str | None:
        """The path that a template comes to; None without a template, or where one of its fields is null."""
        path, _, seconds = template.partition("#t=")
        names = _FIELD.findall(path)
        if not template or any(name in record.fields and record.fields[name] is None for name in names):
            return None
        path = _FIELD.sub(lambda found: record.name(found[1]), path)
        if seconds:
            path += "#t=" + _FIELD.sub(lambda found: str(record.get(found[1], float)), seconds)
            if split_time_span(path)[0] == path:
                raise record.error(kind, f"{path[-60:]} must end in #t=START,END, seconds from 0")
        return record.media(kind, path)


def bare(options: tuple[str, ...]) -> tuple[str, ...]:
    """Options without the letters that they may begin with, if all of them do."""
    found = [_LETTERED.fullmatch(option) for option in options]
    if all(f and f[1] == letter and f[2] for f, letter in zip(found, LETTERS, strict=False)):
        return tuple(f[2].strip() for f in found if f)
    return options
