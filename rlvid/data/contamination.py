"""Find what training and evaluation share: a question with its media, a clip, or the text of a question.

contamination       a held-out question is in training too: the same words, options in any order, and media
shared clip         a clip of training, by its content, under another held-out question
near-duplicate      a held-out question and its options have nearly the words of a training question, and the same right
                    option; and it may have the same clip: one of the same name, or none that is there. A text of
                    several training questions is a template, and the same text about another clip another question
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from rlvid.types import Prompt
from rlvid.utils.text import plain_words
from rlvid.video.read import split_time_span

MEDIA_BLOCK = 2**20  # bytes of a file that are compared; files of one size that agree there count as the same
SIMILARITY = 0.9  # shared words / all words of two texts, from which on they are near-duplicates
MIN_WORDS = 8  # of a text whose near-duplicates are searched


@dataclass(frozen=True)
class Located:
    """A question and the FILE:LINE of its record."""

    prompt: Prompt
    where: str


def contamination(training: Sequence[Located], held_out: Sequence[Located]) -> Iterator[tuple[str, str]]:
    """Yield what each held-out question shares with training, as (kind, message); of several findings the first."""
    content = _same_files([*training, *held_out])
    seen = {_key(question.prompt, content): question.where for question in training}
    clips = {content[q.prompt.video]: q.where for q in training if q.prompt.video in content}
    texts = NearDuplicates([_words(question.prompt) for question in training])
    for question in held_out:
        prompt = question.prompt
        if where := seen.get(_key(prompt, content)):
            yield "contamination", f"{question.where}: the question and its media are in training too: {where}"
        elif where := clips.get(content.get(prompt.video or "", "")):
            yield "shared clip", f"{question.where}: its clip is in training too, with another question: {where}"
        elif (number := texts.only(_words(prompt))) is not None:
            other = training[number]
            if _right_text(prompt) == _right_text(other.prompt) and _may_be_one_clip(prompt, other.prompt):
                yield "near-duplicate", f"{question.where}: nearly the words of a training question: {other.where}"


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

    def only(self, text: frozenset[str]) -> int | None:
        """Return the number of the one text that is a near-duplicate of a text; None if there is none, or several."""
        found = None
        candidates = {number for word in self._rarest(text) for number in self.index.get(word, ())}
        for number in candidates if len(text) >= MIN_WORDS else ():
            other = self.texts[number]
            if len(text & other) >= SIMILARITY * len(text | other):
                if found is not None:
                    return None
                found = number
        return found

    def _rarest(self, text: frozenset[str]) -> list[str]:
        size = len(text) - ceil(SIMILARITY * len(text)) + 1
        return sorted(text, key=lambda word: (self.counts[word], word))[:size]


def _right_text(prompt: Prompt) -> list[str]:
    """Return the words of the right answer."""
    right = prompt.right_option
    return plain_words(prompt.options[right] if right is not None else prompt.answer or "")


def _may_be_one_clip(one: Prompt, other: Prompt) -> bool:
    """Return whether two questions may be about the same clip, cut or encoded in another way."""
    media = [prompt.video or prompt.image for prompt in (one, other)]
    paths = [Path(split_time_span(path)[0]) for path in media if path]
    return len(paths) < 2 or paths[0].stem == paths[1].stem or not any(path.is_file() for path in paths)


def _words(prompt: Prompt) -> frozenset[str]:
    return frozenset(word for text in (prompt.question, *prompt.options) for word in plain_words(text))


def _key(prompt: Prompt, content: Mapping[str, str]) -> tuple[object, ...]:
    """Return what two questions share if they are the same: words, options in any order, and media."""
    media = [content.get(path, path) for path in (prompt.video, prompt.image) if path]
    return tuple(plain_words(prompt.question)), frozenset(prompt.options), *media


def _same_files(questions: Sequence[Located]) -> dict[str, str]:
    """Return medium -> what identifies its content, for files that several questions name, or of a size of another."""
    named = Counter(path for q in questions for path in (q.prompt.video, q.prompt.image) if path)
    by_size: dict[int, list[str]] = defaultdict(list)
    for path in named:
        file = Path(split_time_span(path)[0])
        if file.is_file():
            by_size[file.stat().st_size].append(path)
    contents = {}
    for size, alike in by_size.items():
        several = len({split_time_span(path)[0] for path in alike}) > 1
        for path in alike:
            if several or named[path] > 1:
                name, *span = split_time_span(path)
                with Path(name).open("rb") as stream:
                    digest = hashlib.sha256(stream.read(MEDIA_BLOCK)).hexdigest()
                contents[path] = f"{size} {digest} {span}"
    return contents
