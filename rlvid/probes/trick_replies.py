"""Replies that try to earn reward without reasoning, in prose, by trick; and honest replies to compare them with.

There are two sets of four questions, with what an annotator might have narrated: next steps in the form of
SEED-Bench-R1 (data/tricks.toml), and other forms, domains and lengths (data/more_tricks.toml). Unless the trick is in
the answer itself, every reply answers with the right letter: only the text before the answer differs.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rlvid.types import Completion, Group, Prompt

DATA = Path(__file__).with_name("data")
STEM = "Considering the progress shown in the video and my current observation shown in the image, what action should I"
HONEST = "honest"
Reply = tuple[str, str]  # (id of the question, text)


@dataclass(frozen=True)
class TrickSet:
    """Questions, and replies to them: trick -> replies; those of "honest" use none."""

    prompts: Mapping[str, Prompt]
    replies: Mapping[str, Sequence[Reply]]

    @property
    def honest(self) -> Sequence[Reply]:
        """The honest replies, with which those of every trick are compared."""
        return self.replies[HONEST]

    @property
    def tricks(self) -> dict[str, Sequence[Reply]]:
        """The other replies, by trick."""
        return {trick: replies for trick, replies in self.replies.items() if trick != HONEST}

    def groups(self, replies: Sequence[Reply]) -> list[Group]:
        """Return the replies to each question as a group."""
        texts = {name: [text for question, text in replies if question == name] for name in self.prompts}
        return [
            Group(prompt, [completion(text) for text in texts[name]])
            for name, prompt in self.prompts.items()
            if texts[name]
        ]


@cache
def next_steps() -> TrickSet:
    """Return the questions about next steps: 78 replies by trick, and eight honest ones."""
    return _read("tricks.toml", {"pad the thought": _padded_thoughts()})


@cache
def other_domains() -> TrickSet:
    """Return the questions of other forms and domains: 78 replies by the same tricks, and eight honest ones."""
    return _read("more_tricks.toml", {})


def completion(text: str) -> Completion:
    """Return a reply whose tokens are its words, so that repeated words are repeated tokens.

    The number of a word is the position of its last occurrence.
    """
    words = text.lower().split()
    last_position = {word: i for i, word in enumerate(words)}
    return Completion(text, tokens=tuple(last_position[word] for word in words))


def _read(file: str, generated: Mapping[str, Sequence[Reply]]) -> TrickSet:
    data = tomllib.loads((DATA / file).read_text())
    prompts = {name: _prompt(name, question) for name, question in data["questions"].items()}
    replies = data["replies"].items()
    written: dict[str, Sequence[Reply]] = {trick: [_reply(*parts) for parts in rows] for trick, rows in replies}
    return TrickSet(prompts, {**written, **generated})


def _prompt(name: str, question: dict[str, Any]) -> Prompt:
    next_step = f"{STEM} take next in order to {question.get('goal')}?"
    return Prompt(
        id=name,
        question=question.get("question", next_step),
        options=tuple(question["options"]),
        answer=question["answer"],
        video=f"{name}.mp4",
        narrations=tuple(question["narrations"]),
    )


def _reply(question: str, *parts: str) -> Reply:
    """Build a reply from (thought, answer), or from (whole text,)."""
    if len(parts) == 1:
        return question, parts[0]
    thought, answer = parts
    return question, f"<think>{thought}</think><answer>{answer}</answer>"


def _padded_thoughts() -> list[Reply]:
    """Return replies that repeat something many times."""
    return [
        _reply("tea", "Let me look at this carefully. " * 60 + "So the teabag goes into the cup next.", "A"),
        _reply(
            "pasta",
            "Wait, let me check again. Yes. Wait, let me check again. " * 35
            + "The next step is to pour the pasta into the pot.",
            "C",
        ),
        _reply(
            "dishes",
            "The kitchen is bright and the walls are white and the floor is tiled and the day is fine. " * 18
            + "The tap should be closed.",
            "B",
        ),
        _reply(
            "tyre",
            "A bicycle has two wheels, and a wheel has many spokes, and every spoke is thin. " * 22
            + "So I apply glue.",
            "D",
        ),
        _reply("tea", "Hmm, " * 340 + "the teabag goes into the cup.", "A"),
        _reply("dishes", "It matters what is seen, and what is seen matters. " * 35 + "I should close the tap.", "B"),
    ]
