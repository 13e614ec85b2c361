"""Read any benchmark with questions and options, given a TOML file that maps its fields.

    layout = "multiple_choice"
    path = "questions.jsonl"            # or .json with one array; relative to the TOML file, as are all media;
                                        # a list of files: each record has the name of its own as the field "file"
    question = "question"
    options = "candidates"              # a field with a list or a table {A = .., B = ..}, or a list of fields;
                                        # not set: the lines "A. .." of the question; []: there are no options
    choices = ["yes", "no"]             # instead of `options`: the same options for every question
    option_line = "Caption [AB]: (.+)"  # instead of `options`: the last lines of the question that match this pattern;
                                        # its group is the option, in the answer, too
    no_option = "N/A"                   # in a list of fields: the text in place of an option that is missing
    answer = "answer"                   # a letter, an index from 0, the text of an option, or "B. text";
                                        # without options any text or number (rewards/open_ended.py)
    kind = "regression"                 # of the questions without options, whose field of options is null or empty:
                                        # "free_form", "numerical" or "regression" (rewards/mra.py)
    video = "videos/{video_id}.mp4"     # a path with fields of the record in braces; `image` has the same form;
                                        # with the seconds that the question is about: ".mp4#t={start},{end}"
    id = "question_id"                  # not set: the record's number in the file
    level = "task"                      # a field; not set: the name of the TOML file
    domain = "category"                 # a field
    narrations = "steps"                # a field with a text or a list of texts: what happens, in order, for
                                        # rewards that read narrations; the policy never sees it
    span = "when"                       # a field with [start, end] in seconds (rewards/grounding_tiou.py)
    box = "bbox"                        # a field with [x1, y1, x2, y2] (rewards/grounding_box_iou.py)
    columns = ["difficulty"]            # fields that rewards read as they are: entries of `Prompt.meta`, and columns of
                                        # TRL's functions
    where = {question_type = "multiple-choice"}    # only records with these values are used; a list: one of them
    [average]                           # the published average is over tasks: the mean of these levels counts as one,
    direction = ["left", "right"]       # as does every other level
    [computed]                          # further fields, made of those of the record
    goal = "What next in order to {task_goal}?"
    subject = {from = "id", pattern = "[^_]+_(.+)_[0-9]+"}            # the first group of the pattern
    folder = {from = "subject", values = {Art = ["Music", "Design"]}} # the name of the list that holds the value

A record without a video has null in a field of `video`. A mapped field that a record lacks is an error. A field's name
may hold spaces: "{video ID}".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from rlvid.answer import LETTERS, parse, parse_number
from rlvid.data.computed_fields import PLACEHOLDER, fill, with_computed
from rlvid.data.records import AnnotationFile, AnnotationRecord, split_lettered_options, split_option_lines
from rlvid.protocols.base import NUMERIC
from rlvid.types import Prompt
from rlvid.video.read import split_time_span

_LETTERED = re.compile(r"\s*\(?([A-Z])[.):]\s*(.*)", re.DOTALL)  # "A. open tap", "(A) open tap"


@dataclass(frozen=True)
class FieldMap:
    """Which field of a benchmark's records holds what; see the module's docstring. "" means not set."""

    path: str | tuple[str, ...]
    question: str
    answer: str
    options: str | tuple[str, ...] = ""
    choices: tuple[str, ...] = ()
    option_line: str = ""
    no_option: str = ""
    kind: str = ""
    video: str = ""
    image: str = ""
    id: str = ""
    level: str = ""
    domain: str = ""
    narrations: str = ""
    span: str = ""
    box: str = ""
    columns: tuple[str, ...] = ()
    where: Mapping[str, Any] = field(default_factory=dict)
    computed: Mapping[str, Any] = field(default_factory=dict)
    average: Mapping[str, Any] = field(default_factory=dict)  # read by `benchmark.averaged_tasks`

    def annotation_files(self, root: Path, default_level: str) -> dict[str, AnnotationFile]:
        """Return the files of questions under a root and their conversion to prompts, as split -> file.

        The first split is "questions".
        """

        def to_prompt(record: AnnotationRecord) -> Prompt | None:
            return self.to_prompt(record, default_level)

        paths = (self.path,) if isinstance(self.path, str) else self.path
        files = [AnnotationFile(root / path, root, to_prompt, self.id or "line") for path in paths]
        return {f"questions {file.path.name}" if i else "questions": file for i, file in enumerate(files)}

    def to_prompt(self, record: AnnotationRecord, default_level: str) -> Prompt | None:
        """Convert a record to a prompt, or to None if `where` excludes it. Raises UserError with file, line, field."""
        several_files = isinstance(self.path, tuple)
        own = {key: value for key, value in self.where.items() if key not in (*self.computed, "file")}
        if not _has_values(record, own):  # first, so that nothing is computed for a record that is left out
            return None
        record = with_computed(record, self.computed, several_files)
        if not _has_values(record, self.where):
            return None
        question, options = self._question(record)
        video = self._media(record, "video", self.video)
        meta: dict[str, Any] = {"video_id": Path(split_time_span(video)[0]).stem} if video else {}
        meta |= {name: self._column(record, name) for name in self.columns}
        if not options and self.kind:
            meta["kind"] = self.kind
        number = f"{record.fields['file']}-{record.number}" if several_files else str(record.number)
        return Prompt(
            id=record.get_text(self.id) if self.id else number,
            question=question,
            options=options,
            answer=self._answer(record, options),
            video=video,
            image=self._media(record, "image", self.image),
            level=record.get_text(self.level) if self.level else default_level,
            domain=record.get_text(self.domain) if self.domain else "",
            narrations=self._narrations(record),
            meta=meta | self._regions(record),
        )

    def _narrations(self, record: AnnotationRecord) -> tuple[str, ...]:
        """Return the texts of the mapped field, one or a list of them; () without a map."""
        name = self.narrations
        if not name:
            return ()
        if isinstance(record.fields.get(name), list):
            return tuple(record.validate(name, text) for text in record.get(name, list))
        return (record.get(name),)

    def _question(self, record: AnnotationRecord) -> tuple[str, tuple[str, ...]]:
        """Return the question without its options, and the options."""
        question = record.get(self.question)
        if self.choices:
            return question, self.choices
        if self.option_line:
            return split_option_lines(record, self.question, question, self.option_line)
        if self.options == "":
            return split_lettered_options(record, self.question, question)
        return question, self._options(record)

    def _options(self, record: AnnotationRecord) -> tuple[str, ...]:
        """Return the options from several fields, or from one field with a list or a table.

        Where the map says what kind of questions have no options, a field that is null or empty is such a question.
        """
        if isinstance(self.options, tuple):
            texts = [record.get_text(option) for option in self.options]
            while self.no_option and texts and texts[-1] == self.no_option:
                texts.pop()
            if self.options and len(texts) < 2 and not (self.kind and not texts):
                raise record.error(self.options[0], f"must be the first of two options or more, not {texts}")
            return tuple(texts)
        value = record.fields.get(self.options)
        if self.kind and self.options in record.fields and not _any_text(value):
            return ()
        options = list(value.values()) if isinstance(value, dict) else record.get(self.options, list)
        while options and options[-1] in (None, ""):  # a table from A to E may hold fewer options
            options = options[:-1]
        has_other_keys = isinstance(value, dict) and not LETTERS.startswith("".join(value))
        if not 2 <= len(options) <= len(LETTERS) or has_other_keys:
            raise record.error(
                self.options, f"must hold 2 to {len(LETTERS)} options; the keys of a table must be A, B, C and so on"
            )
        return strip_letters(tuple(record.validate(self.options, option) for option in options))

    def _column(self, record: AnnotationRecord, name: str) -> Any:
        if name not in record.fields:
            raise record.error(name, f"is missing; columns names it, and there are {', '.join(record.fields)}")
        return record.fields[name]

    def _answer(self, record: AnnotationRecord, options: tuple[str, ...]) -> str:
        """Return the letter of the right option; without options, the answer's text."""
        value = record.fields.get(self.answer)
        if not options:
            text = str(value) if type(value) is float else record.get_text(self.answer)
            if self.kind in NUMERIC and parse_number(text) is None:
                raise record.error(self.answer, f"must be a number, not {text[:60]!r}")
            return text
        if type(value) is int and 0 <= value < len(options):
            return LETTERS[value]
        if self.option_line and isinstance(value, str) and (match := re.fullmatch(self.option_line, value.strip())):
            value = match[1].strip()
        letter = parse(f"<answer>{value}</answer>", options) if isinstance(value, str) else None
        if letter is None:
            record.get_text(self.answer)  # a missing field or another type has an error of its own
            raise record.error(
                self.answer,
                f"{str(value)[:60]!r} is none of the {len(options)} options; give a letter, an index from 0 or a text",
            )
        return letter

    def _media(self, record: AnnotationRecord, kind: str, template: str) -> str | None:
        """Return the path of a medium: a template with the record's fields.

        None without a template, or if one of the fields is null. The seconds in `#t={start},{end}` must be numbers.
        """
        path, _, seconds = template.partition("#t=")
        names = PLACEHOLDER.findall(path)
        if path in record.fields:
            raise record.error(
                kind, f'a path is expected, and {path!r} is a field: write "{{{path}}}" in the TOML file'
            )
        if not template or any(name in record.fields and record.fields[name] is None for name in names):
            return None
        path = fill(record, path)
        if seconds:
            path += "#t=" + PLACEHOLDER.sub(lambda match: f"{Decimal(str(record.get(match[1], float))):f}", seconds)
            if split_time_span(path)[0] == path:
                raise record.error(kind, f"{path[-60:]} must end in #t=START,END, with seconds from 0")
        return record.media_path(kind, path)

    def _regions(self, record: AnnotationRecord) -> dict[str, tuple[float, ...]]:
        """Return "span", the seconds of the answer, and "box", its pixels, as far as they are mapped.

        The second half of the numbers holds the ends: (start, end) and (x1, y1, x2, y2).
        """
        regions = {}
        for kind, name, size in (("span", self.span, 2), ("box", self.box, 4)):
            if not name:
                continue
            numbers = tuple(record.validate(name, number, float) for number in record.get(name, list))
            starts, ends = numbers[: size // 2], numbers[size // 2 :]
            if len(numbers) != size or not all(start < end for start, end in zip(starts, ends, strict=True)):
                raise record.error(name, f"{kind} must be {size} numbers, each end after its start, not {numbers}")
            regions[kind] = numbers
        return regions


def _has_values(record: AnnotationRecord, where: Mapping[str, Any]) -> bool:
    """Return whether each field has its value, or one of a list of values."""
    values = {key: record.fields.get(key) for key in where}
    return all(
        values[key] in wanted if isinstance(wanted, list) else values[key] == wanted for key, wanted in where.items()
    )


def _any_text(value: Any) -> bool:
    """Return whether a field of options holds an option."""
    options = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return any(option not in (None, "") for option in options)


def strip_letters(options: tuple[str, ...]) -> tuple[str, ...]:
    """Return the options without leading letters such as "A." or "(A)", if they are lettered in order from A.

    >>> strip_letters(("A. open tap", "B. close tap"))
    ('open tap', 'close tap')
    >>> strip_letters(("A. Bell", "C. Dodo"))
    ('A. Bell', 'C. Dodo')
    """
    matches = [_LETTERED.fullmatch(option) for option in options]
    if all(match and match[1] == letter and match[2] for match, letter in zip(matches, LETTERS, strict=False)):
        return tuple(match[2].strip() for match in matches if match)
    return options
