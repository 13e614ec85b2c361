"""Does the last sentence of the thought name the chosen option, and no other? An exact rule, for templated language.

An option is named by the words that no other option has: "onion" in "put the onion in the pot". r = 1 if the last
sentence holds such words of the chosen option and of no other one; else 0, also for a thought without a conclusion.

It is meant as a measure that no arm is trained on (`eval.rewards.consistency_rule.gated=false`), and as an oracle to
compare with. It is exact for the embedded kitchen, whose options differ in one word. It is no reward for prose.

Known hacks: a denied option counts as named; no reason needs to precede it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rewards._consistency import Consistency, conclusion
from rlvid.answer import LETTERS
from rlvid.reward import Column
from rlvid.types import Completion, Group


def words(text: str) -> set[str]:
    """Return the words of a text in lower case."""
    return set(re.findall(r"\w+", text.casefold()))


def named_options(text: str, options: Sequence[str]) -> list[str]:
    """Return the letters of the options that a text names, by words that only one option has.

    >>> named_options("Next is the onion.", ("put the corn in the pot", "put the onion in the pot"))
    ['B']
    """
    told = words(text)
    named = []
    for index, option in enumerate(options):
        others = [words(other) for number, other in enumerate(options) if number != index]
        if told & words(option).difference(*others):
            named.append(LETTERS[index])
    return named


@dataclass(frozen=True)
class ConsistencyRule(Consistency):
    """1 or 0, times accuracy with `gated`; None if the prompt has no options."""

    def agreement(self, groups: Sequence[Group]) -> Column:
        """Return 1 where the last sentence of the thought names the chosen option only."""
        return [
            [self.agrees(completion, group.prompt.options) for completion in group]
            if group.prompt.options
            else [None] * len(group)
            for group in groups
        ]

    def agrees(self, completion: Completion, options: Sequence[str]) -> float:
        """Return 1 if the last sentence of the thought names the chosen option only, else 0."""
        named = named_options(conclusion(completion, 1), options)
        return float(named == [completion.answer])
