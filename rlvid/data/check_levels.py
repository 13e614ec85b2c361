"""Check the levels of a benchmark against each other: missing, empty, contaminated, or with one answer throughout.

empty file          an annotation file without a record
missing level       no file for a validation level of SEED-Bench-R1's layout, or nothing to evaluate on
level name          a level such as "Train", which is not the training level "train"
contamination       a question about the same media in training and in validation
answer imbalance    a level in which nearly every right answer is the same letter
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlvid.types import Prompt
from rlvid.utils.text import plain_words
from rlvid.video.read import split_time_span

TRAINING = "train"
MIN_QUESTIONS = 20  # of a level whose answers are checked for imbalance
MAX_SHARE = 0.9  # of one letter among a level's right answers
MEDIA_BLOCK = 2**20  # bytes of a file that are compared; files of one size that agree there count as the same


@dataclass(frozen=True)
class Located:
    """A question and the FILE:LINE of its record."""

    prompt: Prompt
    where: str


def level_problems(questions: Sequence[Located]) -> Iterator[tuple[str, str]]:
    """Yield the problems of a benchmark's levels, as (kind, message)."""
    by_level: dict[str, list[Located]] = defaultdict(list)
    for question in questions:
        by_level[question.prompt.level].append(question)
    for level in by_level:
        if level != TRAINING and level.strip().casefold() in ("train", "training"):
            yield "level name", f"level {level!r} is not the training level; call it {TRAINING!r}"
    training = [question for level, found in by_level.items() if level == TRAINING for question in found]
    held_out = [question for level, found in by_level.items() if level != TRAINING for question in found]
    if training and not held_out:
        yield "missing level", f"every question is of the level {TRAINING!r}: nothing is left to evaluate on"
    for level, found in by_level.items():
        if level != TRAINING:
            yield from _imbalance(level, found)
    yield from _contamination(training, held_out)


def missing_levels(existing: Sequence[str], expected: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield a problem for each validation level of a layout without a file, as (kind, message)."""
    for level in expected:
        if level not in existing:
            yield "missing level", f"no file for the level {level}: leave it out of eval.splits, or add the file"


def _imbalance(level: str, questions: Sequence[Located]) -> Iterator[tuple[str, str]]:
    """Yield a problem if nearly all right answers of a level are one letter."""
    letters = Counter(q.prompt.answer for q in questions if q.prompt.answer and len(q.prompt.options) > 1)
    if letters.total() >= MIN_QUESTIONS:
        letter, count = letters.most_common(1)[0]
        if count >= MAX_SHARE * letters.total():
            yield (
                "answer imbalance",
                f"level {level}: {count} of {letters.total()} right answers are {letter}, so that always answering "
                f"{letter} is right; shuffle the options",
            )


def _contamination(training: Sequence[Located], held_out: Sequence[Located]) -> Iterator[tuple[str, str]]:
    """Yield a problem for each held-out question that is in training too, about the same media."""
    same = _same_files([*training, *held_out])
    seen = {_key(question.prompt, same): question.where for question in training}
    for question in held_out:
        if where := seen.get(_key(question.prompt, same)):
            yield "contamination", f"{question.where}: the question and its media are in training too: {where}"


def _key(prompt: Prompt, same: dict[str, str]) -> tuple[object, ...]:
    """Return what two questions share if they are the same: words, options in any order, and media."""
    media = [same.get(path, path) for path in (prompt.video, prompt.image) if path]
    return tuple(plain_words(prompt.question)), frozenset(prompt.options), *media


def _same_files(questions: Sequence[Located]) -> dict[str, str]:
    """Return medium -> what identifies its content, for files of a size that several have."""
    paths = {path for q in questions for path in (q.prompt.video, q.prompt.image) if path}
    by_size: dict[int, list[str]] = defaultdict(list)
    for path in paths:
        file = Path(split_time_span(path)[0])
        if file.is_file():
            by_size[file.stat().st_size].append(path)
    contents = {}
    for size, alike in by_size.items():
        if len({split_time_span(path)[0] for path in alike}) > 1:
            for path in alike:
                name, *span = split_time_span(path)
                with Path(name).open("rb") as stream:
                    digest = hashlib.sha256(stream.read(MEDIA_BLOCK)).hexdigest()
                contents[path] = f"{size} {digest} {span}"
    return contents
