"""LongVideoBench (arXiv:2407.15754) in its published layout, and any data set written in it: questions to be asked.

    ROOT/lvb_val.json           an array of records; `candidates`, and `correct_choice` counted from 0
    ROOT/videos/VIDEO_PATH      clips of seconds to an hour
    ROOT/subtitles/SUBTITLE_PATH   an array of {"timestamp": [start, end], "text": ..} or {"start", "end", "line"}

A question's level is its `duration_group`, the most seconds that its clip may last (15s, 60s, 600s, 3600s), its domain
the `question_category`, one of 17 such as E3E: an event after or before an event. Options stay in the file's order.

With `subtitles` = n, what is said at n evenly spaced moments of the clip stands before the question, with its seconds;
n is best the number of frames that are shown. LongVideoBench's own loader puts it between the frames; Qwen2-VL takes a
video in one piece.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from rlvid.answer import LETTERS
from rlvid.data.records import AnnotationRecord, Source, records
from rlvid.types import Prompt

FILE = "lvb_val.json"
CATEGORIES = (
    *("S2E", "S2O", "S2A", "E2O", "O2E", "T2E", "T2O", "T2A"),
    *("E3E", "O3O", "SSS", "SOS", "SAA", "T3E", "T3O", "TOS", "TAA"),
)
META = ("video_id", "topic_category", "duration")


def source(root: Path, subtitles: int = 0) -> Source:
    """The file of questions and how it is read."""
    root = Path(root).expanduser().resolve()
    return Source(root / FILE, root, partial(question, subtitles=subtitles), "id")


def question(record: AnnotationRecord, subtitles: int = 0) -> Prompt:
    """A record as a prompt."""
    options = tuple(record.check("candidates", option) for option in record.get("candidates", list))
    right, category = record.get("correct_choice", int), record.get("question_category")
    if not 0 <= right < len(options):
        raise record.error("correct_choice", f"must be one of the {len(options)} candidates, from 0, not {right}")
    if category not in CATEGORIES:
        raise record.error("question_category", f"must be one of {', '.join(CATEGORIES)}, not {category!r}")
    said = spoken(record, subtitles) if subtitles else ""
    return Prompt(
        id=record.name("id"),
        question=said + record.get("question"),
        options=options,
        answer=LETTERS[right],
        video=record.media("video_path", "videos", record.get("video_path")),
        level=f"{record.get('duration_group', int)}s",
        domain=category,
        meta={field: record.fields[field] for field in META if field in record.fields},
    )


def spoken(record: AnnotationRecord, count: int) -> str:
    """What is said at `count` evenly spaced moments, a line each as "[12 s] words", or nothing where nothing is.

    A subtitle that lasts less than a second counts for a second around its middle.
    """
    length, offset = record.get("duration", float), record.get("starting_timestamp_for_subtitles", float)
    moments = [length * i / max(count - 1, 1) for i in range(count)]
    file = Path(record.media("subtitle_path", "subtitles", record.get("subtitle_path")))
    if not file.is_file():
        raise record.error("subtitle_path", f"{file}: no such file; unpack subtitles.tar, or leave subtitles out")
    lines = []
    for line in records(file, record.root):
        start, end, text = _line(line, offset + length)
        middle, half = (start + end) / 2 - offset, max(end - start, 1.0) / 2
        if any(middle - half <= moment <= middle + half for moment in moments):
            lines.append(f"[{max(start - offset, 0):.0f} s] {text}")
    return "\n".join(["Subtitles:", *lines, ""]) if lines else ""


def _line(line: AnnotationRecord, end: float) -> tuple[float, float, str]:
    """Start and end in the original video's seconds, and the words; an end that is not known is the clip's."""
    if "timestamp" not in line.fields:
        return _seconds(line, "start"), _seconds(line, "end"), line.get("line").strip()
    span: list[Any] = line.get("timestamp", list)
    if len(span) != 2:
        raise line.error("timestamp", f"must be a start and an end, not {span}")
    start = line.check("timestamp", span[0], float)
    return start, end if span[1] is None else line.check("timestamp", span[1], float), line.get("text").strip()


def _seconds(line: AnnotationRecord, field: str) -> float:
    """ "hours:minutes:seconds" in seconds."""
    try:
        hours, minutes, seconds = line.get(field).split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError as error:
        raise line.error(field, f'must be "hours:minutes:seconds", not {line.fields[field]!r}') from error
