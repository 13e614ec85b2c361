"""Real groups of replies: those that come with rlvid, and those of a run or of any file of the same form.

The shipped groups (data/groups.jsonl, made by generate.py) are replies of the embedded models to questions of the
embedded kitchen, with the tokens that the models wrote. A line of a file holds one group:

    {"id": "7", "question": "Which?", "options": ["a pan", "a cup"], "gold": "B", "completions": ["...", "..."]}

`question` and `completions` are required; `level`, `narrations`, `tokens` and `finished` are read if they are there.
Without `options`, the lettered lines at the end of the question are taken, as in the `samples/` of a run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from rlvid.answer import INSTRUCTION, LETTERS
from rlvid.errors import UserError
from rlvid.probes.trick_replies import completion as with_words_as_tokens
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.files import read_jsonl

SHIPPED = Path(__file__).parent / "data" / "groups.jsonl"
MAX_GROUPS = 256  # of a run's samples, evenly spaced over its steps


@dataclass(frozen=True)
class Replies:
    """Groups of replies and where they come from.

    Attributes:
        groups: without columns or evidence.
        source: in words.
        tokens: what a token is, in words; lengths are counted in it.
        benchmark: the data that the prompts come from, "" if unknown. Its clips are read where a reward needs them.
    """

    groups: tuple[Group, ...]
    source: str
    tokens: str
    benchmark: str = ""

    @property
    def count(self) -> int:
        """The number of replies in all groups."""
        return sum(map(len, self.groups))


@cache
def shipped_replies() -> Replies:
    """Return the groups that come with rlvid."""
    groups = tuple(_group(row, f"{SHIPPED}") for row in _lines(SHIPPED))
    return Replies(groups, "the shipped groups: nano and nano/loose on the embedded kitchen", "tokens", "kitchen")


def saved_replies(
    path: Path,
    benchmark: str = "",
    prompts: Mapping[str, Prompt] | None = None,
    at_most: int | None = MAX_GROUPS,
) -> Replies:
    """Return the groups in the `samples/` of a run, or in a file.

    Args:
        path: a run folder, its `samples/`, or a JSON-lines file.
        benchmark: the data of the run.
        prompts: id -> prompt of that data; a group whose id is in it gets this prompt, with narrations and media.
        at_most: so many groups, evenly spaced over the lines; None: all.

    Raises:
        UserError: if there is nothing to read, or a line lacks what a group needs.
    """
    folder = path / "samples" if (path / "samples").is_dir() else path
    # The completions of a step whose gradient was not finite are kept beside those of the steps that were taken.
    files = (
        sorted(file for file in folder.glob("*.jsonl") if not file.stem.endswith("-not-finite"))
        if folder.is_dir()
        else [folder]
    )
    rows = [(row, f"{file}:{number}") for file in files for number, row in enumerate(_lines(file), 1)]
    if not rows:
        raise UserError(f"{path}: no groups of completions: give a run with samples/, or a file of JSON lines")
    count = min(len(rows), at_most or len(rows))
    kept = [rows[i * len(rows) // count] for i in range(count)]
    groups = tuple(_group(row, where, prompts or {}) for row, where in kept)
    of = f"{len(groups)} of {len(rows)} groups" if len(groups) < len(rows) else f"{len(groups)} groups"
    tokens = "tokens" if all("tokens" in row or "lengths" in row for row, _ in kept) else "words"
    return Replies(groups, f"{of} of {path}", tokens, benchmark)


def _lines(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        raise UserError(f"{file}: no such run or file: --on takes a run folder or a file of JSON lines")
    return read_jsonl(file)


def _group(row: Mapping[str, Any], where: str, prompts: Mapping[str, Prompt] = {}) -> Group:
    """Return a line as a group. Raises UserError if it lacks the question or the completions, or if they do not fit."""
    _check_line(row, where)
    texts = row["completions"]
    finished = row.get("finished") or [True] * len(texts)
    tokens = row.get("tokens") or [None] * len(texts)
    lengths = row.get("lengths") or [None] * len(texts)
    prompt = prompts.get(str(row.get("id"))) or _prompt(row)
    if prompt.answer != row.get("gold", prompt.answer):  # noise in the labels of the run: what it was trained on counts
        prompt = replace(prompt, answer=row["gold"])
    prompt = replace(prompt, answer=_as_letter(prompt.answer, prompt.options, where))
    return Group(
        prompt,
        [
            Completion(text, tuple(own) if own else _as_tokens(text, length), finished=bool(done))
            for text, own, length, done in zip(texts, tokens, lengths, finished, strict=True)
        ],
    )


def _check_line(row: Any, where: str) -> None:
    """Raise UserError unless a line has a question, texts as completions, and lists that are as long as these."""
    for key, kind in (("question", str), ("completions", list)):
        if not isinstance(row, Mapping) or not isinstance(row.get(key), kind) or not row[key]:
            raise UserError(f"{where}: no {key}: a line is {json.dumps(EXAMPLE)}")
    for key in ("completions", "options"):
        texts = row.get(key) or []
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise UserError(f"{where}: {key} are no list of texts: a line is {json.dumps(EXAMPLE)}")
    for key in ("finished", "tokens", "lengths"):
        if row.get(key) and len(row[key]) != len(row["completions"]):
            raise UserError(f"{where}: {len(row[key])} {key} for {len(row['completions'])} completions")


def _as_letter(gold: str | None, options: Sequence[str], where: str) -> str | None:
    """Return the letter of the right option, which may be given by its text; any answer of an open question.

    Raises UserError if it names none of the options.
    """
    letters = LETTERS[: len(options)]
    if gold is None or not options or gold in letters:
        return gold
    if gold in options:
        return letters[options.index(gold)]
    known = f"a letter from A to {letters[-1]}, or its text"
    raise UserError(f"{where}: gold {gold!r} is none of the options: give {known}")


EXAMPLE = {"question": "Which?", "options": ["a pan", "a cup"], "gold": "B", "completions": ["...", "..."]}


def _as_tokens(text: str, length: int | None) -> tuple[int, ...]:
    """Return numbers of a text's words as its tokens; with `length`, so many of them, the last ones without meaning."""
    words = with_words_as_tokens(text).tokens
    if length is None:
        return words
    return (*words[:length], *range(len(words), length))


def _prompt(row: Mapping[str, Any]) -> Prompt:
    question, options = row["question"], row.get("options")
    if options is None:
        question, options = split_options(question)
    return Prompt(
        id=str(row.get("id", question)),
        question=question,
        options=tuple(options),
        answer=row.get("gold", row.get("answer")),
        level=str(row.get("level", "train")),
        narrations=tuple(row.get("narrations", ())),
        demonstration=row.get("demonstration"),
    )


def split_options(text: str) -> tuple[str, list[str]]:
    """Split the text of a prompt into its question and its lettered options.

    >>> split_options("Which?\\nA. a pan\\nB. a cup\\n")
    ('Which?', ['a pan', 'a cup'])
    """
    lines = text.replace(INSTRUCTION, "").rstrip().split("\n")
    options: list[str] = []
    while lines and (match := re.match(r"([A-Z])\. (.+)$", lines[-1])):
        options.insert(0, match[2])
        letter = match[1]
        lines.pop()
        if letter == LETTERS[0]:
            return "\n".join(lines), options
    return text, []
