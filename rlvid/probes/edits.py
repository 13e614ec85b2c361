"""Edits of a reply: harmful ones, which no reward should pay for, and those that a search builds gamed replies from."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from rlvid.answer import LETTERS
from rlvid.types import Completion, Prompt

_VERB = re.compile(r"\b(is|are|was|were|has|have|should|must|will|can|goes|go)\b", re.IGNORECASE)
FILLER = "Let me look at this once more before I go on. "


def negate(thought: str, prompt: Prompt) -> str:
    """The conclusion is denied; the answer stays."""
    *before, last = split_sentences(thought)
    denied = _VERB.sub(r"\1 not", last, count=1)
    return " ".join([*before, denied if denied != last else f"It is not true that {last[:1].lower()}{last[1:]}"])


def swap_option(thought: str, prompt: Prompt) -> str:
    """The conclusion names another option than the answer."""
    *before, last = split_sentences(thought)
    right = prompt.right_option
    if right is None or len(prompt.options) < 2:
        return thought
    other = (right + 1) % len(prompt.options)
    swapped, changed = last, False
    for own, foreign in zip(_distinct_words(prompt, right), _distinct_words(prompt, other), strict=False):
        replaced = re.sub(rf"\b{re.escape(own)}\b", foreign, swapped, flags=re.IGNORECASE)
        changed, swapped = changed or replaced != swapped, replaced
    return " ".join([*before, swapped if changed else f"So the answer is: {prompt.options[other]}."])


def drop_evidence(thought: str, prompt: Prompt) -> str:
    """Only the conclusion is left."""
    return split_sentences(thought)[-1]


def permute_steps(thought: str, prompt: Prompt) -> str:
    """What happened is told in reverse order; the conclusion stays."""
    *before, last = split_sentences(thought)
    turned = []
    for sentence in before[::-1]:
        clauses = sentence.rstrip(".").split(", ")
        text = ", ".join([clauses[-1][:1].upper() + clauses[-1][1:], *(c[:1].lower() + c[1:] for c in clauses[-2::-1])])
        turned.append(f"{text}.")
    return " ".join([*turned, last])


def pad(thought: str, prompt: Prompt) -> str:
    """Thirty sentences that say nothing come first."""
    return FILLER * 30 + thought


def repeat(thought: str, prompt: Prompt) -> str:
    """The whole thought is told three times."""
    return " ".join([thought] * 3)


THOUGHT_EDITS: dict[str, Callable[[str, Prompt], str]] = {
    "negate the conclusion": negate,
    "conclude another option": swap_option,
    "drop the evidence": drop_evidence,
    "reverse the steps": permute_steps,
    "pad with filler": pad,
    "repeat the thought": repeat,
}
TAG_EDITS = {  # edits of the whole reply
    "translate the tags": lambda text: text.replace("think>", "denken>").replace("answer>", "antwort>"),
    "answer before thinking": lambda text: re.sub(
        r"(<think>.*</think>)(<answer>.*</answer>)", r"\2\1", text, flags=re.S
    ),
}


def edited(edit: str, completion: Completion, prompt: Prompt) -> Completion | None:
    """Return a reply after an edit, with its tokens renewed; None if it has no thought, or if nothing changes."""
    text, thought = completion.text, completion.thought
    if edit in TAG_EDITS:
        new = TAG_EDITS[edit](text)
    elif thought and split_sentences(thought):
        new = text.replace(thought, THOUGHT_EDITS[edit](thought, prompt), 1)
    else:
        return None
    return None if new == text else retold(new, completion)


def retold(text: str, like: Completion) -> Completion:
    """Return a reply with another text and, for its tokens, the numbers of its pieces.

    As many tokens a character as in the reply that it is made from, so that lengths can be compared.
    """
    pieces = re.findall(r"\w+|[^\w\s]", text)
    numbers = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    per_piece = len(like.tokens) / max(len(re.findall(r"\w+|[^\w\s]", like.text)), 1)
    count = max(1, round(per_piece * len(pieces)))
    kept = [pieces[min(i * len(pieces) // count, len(pieces) - 1)] for i in range(count)] if pieces else [""]
    return Completion(text, tuple(numbers.get(piece, 0) for piece in kept), finished=like.finished)


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text."""
    return [part for part in re.split(r"(?<=[.!?])\s+", text.strip()) if part]


class SearchEdits:
    """Random edits of a thought for a search: drop, repeat, move and add sentences and phrases. The answer stays.

    Args:
        prompt: the question; its options and its own words are among the phrases.
        phrases: sentences of other replies and tricks.
        rng: of all draws.
    """

    def __init__(self, prompt: Prompt, phrases: Sequence[str], rng: np.random.Generator) -> None:
        options = [f"The answer is {letter}." for letter in LETTERS[: len(prompt.options)]]
        self.phrases = [*phrases, *(f"{option}." for option in prompt.options), *options, prompt.question]
        self.rng = rng

    def __call__(self, thought: str) -> str:
        """Return the thought after one to three edits."""
        parts = split_sentences(thought) or [""]
        for _ in range(self.rng.integers(1, 4)):
            position = int(self.rng.integers(len(parts)))
            match int(self.rng.integers(6)):
                case 0 if len(parts) > 1:
                    parts.pop(position)
                case 1:
                    parts.insert(position, parts[position])
                case 2:
                    parts.append(parts.pop(position))
                case 3:
                    parts[position] = negate(parts[position], Prompt("", "")) if parts[position] else ""
                case _:
                    parts.insert(position + 1, self.phrases[int(self.rng.integers(len(self.phrases)))])
        return " ".join(filter(None, parts))


def _distinct_words(prompt: Prompt, index: int) -> list[str]:
    """Return the words of an option that no other option has."""
    words = [re.findall(r"\w+", option) for option in prompt.options]
    others = {word.casefold() for number, row in enumerate(words) if number != index for word in row}
    return [word for word in words[index] if word.casefold() not in others]
