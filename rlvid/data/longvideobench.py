"""LongVideoBench (arXiv:2407.15754) in its published layout, and any data set in the same layout. For evaluation only.

    ROOT/lvb_val.json              an array of records; `candidates`, and `correct_choice` counted from 0
    ROOT/videos/VIDEO_PATH         clips of seconds to an hour
    ROOT/subtitles/SUBTITLE_PATH   an array of {"timestamp": [start, end], "text": ..} or {"start", "end", "line"}

The level of a question is its `duration_group`, the maximal length of its clip (15s, 60s, 600s, 3600s). Its domain is
the `question_category`, one of 17; for example E3E asks for an event before or after another event. Options keep the
order of the file.

With `subtitles` = n, the question is preceded by the words spoken at n evenly spaced moments of the clip, with their
seconds; the best n is the number of frames that the policy sees. LongVideoBench's loader places them between the
frames instead. This is not possible here because Qwen2-VL takes a video in one piece.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from rlvid.answer import LETTERS
from rlvid.data.records import AnnotationFile, AnnotationRecord, read_records
from rlvid.types import Prompt

ANNOTATION_FILE = "lvb_val.json"
CATEGORIES = (
    *("S2E", "S2O", "S2A", "E2O", "O2E", "T2E", "T2O", "T2A"),
    *("E3E", "O3O", "SSS", "SOS", "SAA", "T3E", "T3O", "TOS", "TAA"),
)
META_FIELDS = ("video_id", "topic_category", "duration")


def annotation_file(root: Path, subtitles: int = 0) -> AnnotationFile:
    """Return the annotation file under a root, and its conversion to prompts."""
    root = Path(root).expanduser().resolve()
    return AnnotationFile(root / ANNOTATION_FILE, root, partial(to_prompt, subtitles=subtitles), "id")


def to_prompt(record: AnnotationRecord, subtitles: int = 0) -> Prompt:
    """Convert a record to a prompt, with the subtitles of so many moments. Raises UserError with file, line, field."""
    options = record.get_texts("candidates")
    correct = record.get("correct_choice", int)
    if not 0 <= correct < len(options):
        raise record.error(
            "correct_choice", f"must be the index of one of the {len(options)} candidates, not {correct}"
        )
    category = record.get("question_category")
    if category not in CATEGORIES:
        raise record.error("question_category", f"must be one of {', '.join(CATEGORIES)}, not {category!r}")
    return Prompt(
        id=record.get_text("id"),
        question=(subtitle_lines(record, subtitles) if subtitles else "") + record.get("question"),
        options=options,
        answer=LETTERS[correct],
        video=record.media_path("video_path", "videos", record.get("video_path")),
        level=f"{record.get('duration_group', int)}s",
        domain=category,
        meta=record.present(META_FIELDS),
    )


def subtitle_lines(record: AnnotationRecord, count: int) -> str:
    """Return the subtitles that are shown at `count` evenly spaced moments of the clip.

    The first line is "Subtitles:", then one line per subtitle, such as "[12 s] hello". The text is empty if there is
    nothing to show. A subtitle that lasts less than a second counts for a second around its middle.
    """
    duration, offset = record.get("duration", float), record.get("starting_timestamp_for_subtitles", float)
    moments = [duration * index / max(count - 1, 1) for index in range(count)]
    file = Path(record.media_path("subtitle_path", "subtitles", record.get("subtitle_path")))
    if not file.is_file():
        raise record.error("subtitle_path", f"{file}: no such file; unpack subtitles.tar, or remove `subtitles`")
    lines = []
    for subtitle in read_records(file, record.root):
        start, end, text = _parse_subtitle(subtitle, clip_end=offset + duration)
        middle, half = (start + end) / 2 - offset, max(end - start, 1.0) / 2
        if any(middle - half <= moment <= middle + half for moment in moments):
            lines.append(f"[{max(start - offset, 0):.0f} s] {text}")
    return "\n".join(["Subtitles:", *lines, ""]) if lines else ""


def _parse_subtitle(subtitle: AnnotationRecord, clip_end: float) -> tuple[float, float, str]:
    """Return start and end, in seconds of the original video, and the text. A missing end is the end of the clip."""
    if "timestamp" not in subtitle.fields:
        return _seconds(subtitle, "start"), _seconds(subtitle, "end"), subtitle.get("line").strip()
    span: list[Any] = subtitle.get("timestamp", list)
    if len(span) != 2:
        raise subtitle.error("timestamp", f"must be a start and an end, not {span}")
    start = subtitle.validate("timestamp", span[0], float)
    end = clip_end if span[1] is None else subtitle.validate("timestamp", span[1], float)
    return start, end, subtitle.get("text").strip()


def _seconds(subtitle: AnnotationRecord, field: str) -> float:
    """Return a field such as "0:01:30.5" in seconds."""
    try:
        hours, minutes, seconds = subtitle.get(field).split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError as error:
        raise subtitle.error(field, f'must be "hours:minutes:seconds", not {subtitle.fields[field]!r}') from error
