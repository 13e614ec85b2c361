"""Find what training and evaluation share: a question with its media, a clip, or the text of a question.

contamination       a held-out question is in training too: the same words, options in any order, and media
shared clip         a clip of training, by its content, under another held-out question
near-duplicate      a held-out question and its options have nearly the words of a training question, and the same right
                    option; and it may have the same clip: one of the same name, or none that is there. A text of
                    several training questions is a template, and the same text about another clip another question.
                    Or the clips have the same name and the right options and questions are the same, whatever the
                    other options and the words that every question of SEED-Bench-R1 has

Two parts of one film are one clip if their seconds overlap.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from rlvid.noise.labels import QUESTION_FORM
from rlvid.types import Prompt
from rlvid.utils.text import plain_words
from rlvid.video.read import split_time_span

MEDIA_BLOCK = 2**20  # bytes of a file that are compared; files of one size that agree there count as the same
SIMILARITY = 0.9  # shared words / all words of two texts, from which on they are near-duplicates
MIN_WORDS = 8  # of a text whose near-duplicates are searched
FORM_WORDS = frozenset(plain_words(QUESTION_FORM))


@dataclass(frozen=True)
class Located:
    """A question and the FILE:LINE of its record."""

    prompt: Prompt
    where: str


def contamination(training: Sequence[Located], held_out: Sequence[Located]) -> Iterator[tuple[str, str]]:
    """Yield what each held-out question shares with training, as (kind, message); of several findings the first."""
    content = _same_files([*training, *held_out])
    seen = {_key(question.prompt, content): question.where for question in training}
    clips: dict[str, list[Located]] = defaultdict(list)
    for question in training:
        if (file := _file_and_span(question.prompt)[0]) in content:
            clips[content[file]].append(question)
    words = _Words(training)
    for question in held_out:
        prompt = question.prompt
        file, *span = _file_and_span(prompt)
        if where := seen.get(_key(prompt, content)):
            yield "contamination", f"{question.where}: the question and its media are in training too: {where}"
            continue
        same_clip = (other for other in clips.get(content.get(file, ""), ()) if _overlap(span, other.prompt))
        if shared := next(same_clip, None):
            yield "shared clip", f"{question.where}: its clip is in training too, with another question: {shared.where}"
        elif near := words.near(prompt):
            yield "near-duplicate", f"{question.where}: nearly the words of a training question: {near.where}"


class _Words:
    """Training questions by their words, to find one that a held-out question may be a copy of."""

    def __init__(self, training: Sequence[Located]) -> None:
        self.by_words: dict[frozenset[str], list[Located]] = defaultdict(list)
        self.by_goal: dict[tuple[object, ...], Located] = {}
        files_of_name: dict[str, set[str]] = defaultdict(set)
        for question in training:
            self.by_words[_words(question.prompt)].append(question)
            files_of_name[_name(question.prompt)].add(_file_and_span(question.prompt)[0])
        for question in training:  # "0001.mp4" of several folders is the name of no clip
            if len(files_of_name[_name(question.prompt)]) == 1:
                self.by_goal.setdefault(_goal_key(question.prompt), question)
        self.texts = [*self.by_words]
        self.duplicates = NearDuplicates(self.texts)

    def near(self, prompt: Prompt) -> Located | None:
        """Return the training question that a held-out one is nearly a copy of."""
        numbers = self.duplicates.matching(_words(prompt))
        first = self.by_words[self.texts[numbers[0]]][0] if numbers else None
        questions = (question for number in numbers for question in self.by_words[self.texts[number]])
        is_template = first and any(_are_different(first.prompt, question.prompt) for question in questions)
        if first and not is_template and _may_be_copy(prompt, first.prompt):
            return first
        return self.by_goal.get(_goal_key(prompt)) if _name(prompt) else None


class NearDuplicates:
    """Texts as sets of words, and those that share at least `SIMILARITY` of their words with another text.

    If |A and B| / |A or B| >= s, then B holds a word of every choice of |A| - ceil(s |A|) + 1 words of A. So texts are
    indexed by that many of their rarest words, and only texts that share one of them are compared.
    """

    def __init__(self, texts: Sequence[frozenset[str]]) -> None:
        self.texts = texts
        self.counts = Counter(word for text in texts for word in text)
        self.index: dict[str, list[int]] = defaultdict(list)
        for number, text in enumerate(texts):
            for word in self._rarest(text):
                self.index[word].append(number)

    def matching(self, text: frozenset[str]) -> list[int]:
        """Return the numbers of the near-duplicates of a text; none for a text of few words."""
        if len(text) < MIN_WORDS:
            return []
        candidates = {number for word in self._rarest(text) for number in self.index.get(word, ())}
        sizes = ((number, self.texts[number]) for number in sorted(candidates))
        return [number for number, other in sizes if len(text & other) >= SIMILARITY * len(text | other)]

    def _rarest(self, text: frozenset[str]) -> list[str]:
        size = len(text) - ceil(SIMILARITY * len(text)) + 1
        return sorted(text, key=lambda word: (self.counts[word], word))[:size]


def _right_text(prompt: Prompt) -> list[str]:
    """Return the words of the right answer."""
    right = prompt.right_option
    return plain_words(prompt.options[right] if right is not None else prompt.answer or "")


def _may_be_copy(one: Prompt, other: Prompt) -> bool:
    """Return whether two questions have the same right option, and maybe a clip that was cut or encoded anew."""
    if _right_text(one) != _right_text(other):
        return False
    paths = [Path(file) for file in (_file_and_span(one)[0], _file_and_span(other)[0]) if file]
    return len(paths) < 2 or paths[0].stem == paths[1].stem or not any(path.is_file() for path in paths)


def _are_different(one: Prompt, other: Prompt) -> bool:
    """Return whether two training questions are two samples, not one that several splits have."""
    return one.id != other.id and not (_name(one) and _name(one) == _name(other))


def _file_and_span(prompt: Prompt) -> tuple[str, float, float]:
    """Return the file of a question's video, or else of its image, and the seconds; "" without either."""
    return split_time_span(prompt.video or prompt.image or "")


def _name(prompt: Prompt) -> str:
    """Return the name of a question's clip, without folder and ending; "" without media."""
    return Path(_file_and_span(prompt)[0]).stem


def _overlap(span: Sequence[float], other: Prompt) -> bool:
    """Return whether some seconds of a film and those of another question's clip overlap."""
    _, start, end = _file_and_span(other)
    return span[0] < end and start < span[1]


def _words(prompt: Prompt) -> frozenset[str]:
    return frozenset(word for text in (prompt.question, *prompt.options) for word in plain_words(text))


def _goal_key(prompt: Prompt) -> tuple[object, ...]:
    """Return the clip's name, the words of the question that not every question has, and those of the right option."""
    words = plain_words(prompt.question)
    return _name(prompt), tuple(word for word in words if word not in FORM_WORDS), tuple(_right_text(prompt))


def _key(prompt: Prompt, content: Mapping[str, str]) -> tuple[object, ...]:
    """Return what two questions share if they are the same: words, options in any order, and media."""
    media = [split_time_span(path) for path in (prompt.video, prompt.image) if path]
    options = frozenset(" ".join(plain_words(option)) for option in prompt.options)
    return tuple(plain_words(prompt.question)), options, *((content.get(file, file), *span) for file, *span in media)


def _same_files(questions: Sequence[Located]) -> dict[str, str]:
    """Return file -> what identifies its content, for files that several questions name, or of a size of another."""
    named = Counter(split_time_span(path)[0] for q in questions for path in (q.prompt.video, q.prompt.image) if path)
    by_size: dict[int, list[str]] = defaultdict(list)
    for path in named:
        if Path(path).is_file():
            by_size[Path(path).stat().st_size].append(path)
    contents = {}
    for size, alike in by_size.items():
        for path in alike:
            if len(alike) > 1 or named[path] > 1:
                with Path(path).open("rb") as stream:
                    contents[path] = f"{size} {hashlib.sha256(stream.read(MEDIA_BLOCK)).hexdigest()}"
    return contents
