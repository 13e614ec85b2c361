"""Does the end of the thought entail the chosen option, and more than any other, to a cross-encoder trained on NLI?

r = max(0, P(entailment | chosen) - max over the others), from 0 to 1; with `hard`, 1 where the chosen option is the one
that is entailed most. Premise: the thought's last sentences; hypothesis: "The answer is: OPTION." Known hacks: a mere
assertion entails itself, with or without reasons before it; a premise cut short may lose its "not".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rewards._consistency import Consistency, conclusion, unrecorded
from rlvid.answer import LETTERS
from rlvid.reward import Column
from rlvid.types import Completion, Group


@dataclass(frozen=True)
class ConsistencyNli(Consistency):
    """From 0 to 1, times accuracy unless `gated` is off; None where the prompt has no options."""

    hypothesis: str = "The answer is: {}."
    sentences: int = 2
    hard: bool = False

    needs: ClassVar[frozenset[str]] = frozenset({"nli", "column:accuracy"})

    def agreement(self, groups: Sequence[Group]) -> Column:
        """All pairs of a step are judged in one call; each option's entailment is kept in the samples."""
        pairs = sorted({pair for group in groups for c in group for pair in self.pairs(c)})
        entailed = dict(zip(pairs, unrecorded(groups[0].evidence["nli"])(pairs), strict=True)) if pairs else {}
        for group in groups:
            told = [[entailed[pair] for pair in self.pairs(c)] or None for c in group]
            group.evidence["consistency_nli"] = told
        return [
            [
                self.lead(c, told) if c.options else None
                for c, told in zip(g, g.evidence["consistency_nli"], strict=True)
            ]
            for g in groups
        ]

    def pairs(self, completion: Completion) -> list[tuple[str, str]]:
        """(premise, hypothesis) for each option; none without a thought or an answer."""
        end = conclusion(completion, self.sentences)
        said = end and completion.answer
        return [(end, self.hypothesis.format(option)) for option in completion.options] if said else []

    def lead(self, completion: Completion, entailed: Sequence[float] | None) -> float:
        """How much more the chosen option is entailed than the next."""
        if completion.answer is None or entailed is None:
            return 0.0
        others = [*entailed]
        chosen = others.pop(LETTERS.index(completion.answer))
        lead = chosen - max(others, default=0.0)
        return float(lead > 0) if self.hard else max(0.0, lead)
