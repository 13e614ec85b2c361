"""Replies that try to earn reward without reasoning, in prose, by trick; and honest replies to compare them with.

There are four questions in the form of SEED-Bench-R1, with what an annotator might have narrated. Unless the trick is
in the answer itself, every reply answers with the right letter: only the text before the answer differs.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlvid.types import Completion, Group, Prompt

STEM = "Considering the progress shown in the video and my current observation shown in the image, what action should I"
Reply = tuple[str, str]  # (id of the question, text)


def _prompt(name: str, question: dict[str, Any]) -> Prompt:
    return Prompt(
        id=name,
        question=f"{STEM} take next in order to {question['goal']}?",
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


_DATA = tomllib.loads(Path(__file__).with_name("hacks.toml").read_text())
_PADDED = [
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
        "A bicycle has two wheels, and a wheel has many spokes, and every spoke is thin. " * 22 + "So I apply glue.",
        "D",
    ),
    _reply("tea", "Hmm, " * 340 + "the teabag goes into the cup.", "A"),
    _reply("dishes", "It matters what is seen, and what is seen matters. " * 35 + "I should close the tap.", "B"),
]

PROMPTS = {name: _prompt(name, question) for name, question in _DATA["questions"].items()}
REPLIES: dict[str, list[Reply]] = {
    trick: [_reply(*parts) for parts in replies] for trick, replies in _DATA["replies"].items()
} | {"pad the thought": _PADDED}
HONEST = REPLIES["honest"]
HACKS = {trick: replies for trick, replies in REPLIES.items() if trick != "honest"}


def groups(replies: Sequence[Reply]) -> list[Group]:
    """Return the replies to each question as a group."""
    texts = {name: [text for question, text in replies if question == name] for name in PROMPTS}
    return [Group(PROMPTS[name], [completion(text) for text in texts[name]]) for name in PROMPTS if texts[name]]


def completion(text: str) -> Completion:
    """Return a reply whose tokens are its words, so that repeated words are repeated tokens.

    The number of a word is the position of its last occurrence.
    """
    words = text.lower().split()
    last_position = {word: i for i, word in enumerate(words)}
    return Completion(text, tokens=tuple(last_position[word] for word in words))
