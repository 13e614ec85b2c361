"""Pairs of reasoning and answer, labelled by whether the answer follows from the reasoning.

There are two sets: generated from the embedded kitchen, and handwritten prose about real kitchens. Half of the
questions, by a hash of their id, is for tuning; results are reported on the other half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlvid.answer import LETTERS
from rlvid.types import Completion, Prompt
from rlvid.utils.hashing import uniform_hash


@dataclass(frozen=True)
class Pair:
    """A thought and an answer to a question; `consistent` if the thought leads to the answer."""

    prompt: Prompt
    thought: str
    answer: str
    consistent: bool

    @property
    def is_tuning(self) -> bool:
        """Whether it belongs to the half for tuning."""
        return uniform_hash("half", self.prompt.id) < 0.5

    @property
    def completion(self) -> Completion:
        """The pair in the form of a policy's reply."""
        return Completion(f"<think>{self.thought}</think><answer>{self.answer}</answer>")


def generated_pairs(demonstrated: Sequence[Prompt]) -> list[Pair]:
    """Return two pairs for each prompt of the embedded kitchen with a demonstration.

    In about half of them, by hash, the last word of the thought is replaced by a random ingredient, so that a
    consistent pair may be wrong and an inconsistent one may be right.
    """
    pairs = []
    for prompt in demonstrated:
        thought = Completion(prompt.demonstration or "").thought or ""
        concluded = LETTERS.index(prompt.answer or "A")
        if uniform_hash("turn", prompt.id) < 0.5:
            concluded = (concluded + int(uniform_hash("wrong", prompt.id) * 6)) % 4
        ingredient = prompt.options[concluded].split()[2]
        start, _, _ = thought.rpartition(" Next is the ")
        pairs += _consistent_and_inconsistent(prompt, f"{start} Next is the {ingredient}.", concluded)
    return pairs


def handwritten_pairs() -> list[Pair]:
    """Return eight pairs for each of sixteen kitchens: four conclusions with the answer they lead to and with another.

    Every other thought, by hash, rules out another option before it concludes.
    """
    pairs = []
    for block in KITCHENS.read_text().strip().split("\n\n"):
        situation, *lines = block.strip().split("\n")
        options, conclusions = zip(*(line.split(": ", 1) for line in lines), strict=True)
        name = options[0]
        prompt = Prompt(name, "What action should I take next?", options)
        for index, conclusion in enumerate(conclusions):
            other = options[(index + 1 + int(3 * uniform_hash("aside", name, index))) % 4]
            aside = ASIDES[int(len(ASIDES) * uniform_hash("turn", name, index))].format(other)
            thought = " ".join(part for part in (situation, aside, conclusion) if part)
            pairs += _consistent_and_inconsistent(prompt, thought, index)
    return pairs


def split_halves(pairs: list[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Return the half for tuning and the half to report."""
    return [pair for pair in pairs if pair.is_tuning], [pair for pair in pairs if not pair.is_tuning]


def _consistent_and_inconsistent(prompt: Prompt, thought: str, concluded: int) -> list[Pair]:
    """Return a thought with the answer that it leads to, and with one of the other three."""
    other = (concluded + 1 + int(3 * uniform_hash("other", prompt.id, thought))) % 4
    return [Pair(prompt, thought, LETTERS[i], i == concluded) for i in (concluded, other)]


# One block per kitchen: the situation, then four lines "option: a conclusion in other words that leads to it".
KITCHENS = Path(__file__).parent / "data" / "kitchens.txt"
ASIDES = ("", "", "", "One might {}, but not yet.", "It is too early to {}.", "Later I may {}.")
