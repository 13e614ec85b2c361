"""Which of the told moves happened? F1, in order, in the language of the embedded kitchen; inferences cost nothing.

A thought tells moves as "the onion went in" and "the onion came out". "The pot shows the onion" tells that the onion
went in, unless the told moves leave it on top of the pot anyway: the last move may happen after the clip, and then only
the image shows it. Nothing else is told: "That leaves corn. Next is the corn." is inference. r = 2 common /
(told + narrated), where `common` is the length of the longest common subsequence; None if nothing is narrated in the
kitchen's words.

It is meant as a measure. Unlike `grounding_narrations` it also applies where question and options name the ingredients.

Known hack: a move in other words is not told at all, neither right nor wrong.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from rewards._words import common_length
from rlvid.reward import Column
from rlvid.types import Completion, Group, Prompt


class Move(NamedTuple):
    """An ingredient that goes into the pot, or comes out."""

    item: str
    into: bool


def told_moves(thought: str) -> list[Move]:
    """Return the moves that a thought tells.

    >>> told_moves("The corn went in. Now the pot shows the beet. Next is the onion.")
    [Move(item='corn', into=True), Move(item='beet', into=True)]
    """
    text = thought.casefold()
    moves = [Move(item, verb == "went in") for item, verb in re.findall(r"the (\w+) (went in|came out)", text)]
    pot: list[str] = []
    for move in moves:
        pot = [item for item in pot if item != move.item] + [move.item] * move.into
    for shown in re.findall(r"the pot shows the (\w+)", text)[:1]:
        if pot[-1:] != [shown]:
            moves.append(Move(shown, into=True))
    return moves


def narrated_moves(prompt: Prompt) -> list[Move]:
    """Return the moves of a prompt's narrations; those in other words are left out."""
    patterns = {r"put the (\w+) in the pot": True, r"take the (\w+) out of the pot": False}
    return [
        Move(match[1], into)
        for text in prompt.narrations
        for pattern, into in patterns.items()
        if (match := re.fullmatch(pattern, text.casefold()))
    ]


@dataclass(frozen=True)
class GroundingMoves:
    """From 0 to 1; None if no move is narrated."""

    needs: ClassVar[frozenset[str]] = frozenset({"narrations"})

    def __call__(self, groups: Sequence[Group]) -> Column:
        """Return one row per group."""
        return [[self.score(completion, group.prompt) for completion in group] for group in groups]

    def score(self, completion: Completion, prompt: Prompt) -> float | None:
        """Return the F1 of the moves that a thought tells."""
        told, narrated = told_moves(completion.thought or ""), narrated_moves(prompt)
        return 2 * common_length(told, narrated) / (len(told) + len(narrated)) if narrated else None
