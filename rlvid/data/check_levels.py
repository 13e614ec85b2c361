"""Check the levels of a benchmark against each other: missing, empty, contaminated, or with one answer throughout.

empty file          an annotation file without a record
missing level       no file for a validation level of SEED-Bench-R1's layout, or nothing to evaluate on
level name          a level such as "Train", which is not the training level "train"
contamination       what training and validation share, see contamination.py
missing answer      a level in which questions have no right answer
answer imbalance    a level in which nearly every right answer is the same letter
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from rlvid.data.contamination import Located, contamination

TRAINING = "train"
MIN_QUESTIONS = 20  # of a level whose answers are checked for imbalance
MAX_SHARE = 0.9  # of one letter among a level's right answers


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
            if missing := sum(not question.prompt.answer for question in found):
                yield "missing answer", f"level {level}: {missing} of {len(found)} questions have no right answer"
    yield from contamination(training, held_out)


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
