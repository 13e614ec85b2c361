"""To a cross-encoder trained on NLI, does the end of the thought entail the chosen option more than any other?

r = max(0, P(entailment | chosen) - max over the others), from 0 to 1; with `hard`, 1 if the chosen option is the one
that is entailed most. Premise: the thought's last sentences; hypothesis: "The answer is: OPTION."

Known hacks: a mere assertion entails itself, with or without reasons before it; a premise that is cut off may lose its
"not".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rewards._consistency import Consistency, conclusion, without_logging
from rlvid.answer import LETTERS
from rlvid.reward import Column
from rlvid.types import Completion, Group


@dataclass(frozen=True)
class ConsistencyNli(Consistency):
    """From 0 to 1, times accuracy with `gated`; None if the prompt has no options."""

    hypothesis: str = "The answer is: {}."
    sentences: int = 2
    hard: bool = False

    needs: ClassVar[frozenset[str]] = frozenset({"nli", "column:accuracy"})

    def __post_init__(self) -> None:
        if self.sentences < 1:
            raise ValueError(f"sentences must be 1 or more, not {self.sentences}")

    def agreement(self, groups: Sequence[Group]) -> Column:
        """Return the chosen options' leads. Scores all pairs in one call and records each option's entailment."""
        pairs = sorted({pair for group in groups for completion in group for pair in self.nli_pairs(completion)})
        probs = dict(zip(pairs, without_logging(groups[0].evidence["nli"])(pairs), strict=True)) if pairs else {}

        column: Column = []
        for group in groups:
            entailments = [[probs[pair] for pair in self.nli_pairs(completion)] or None for completion in group]
            group.evidence["consistency_nli"] = entailments
            column.append(
                [
                    self.lead(completion, entailment) if completion.options else None
                    for completion, entailment in zip(group, entailments, strict=True)
                ]
            )
        return column

    def nli_pairs(self, completion: Completion) -> list[tuple[str, str]]:
        """Return (premise, hypothesis) for each option; an empty list without a thought or an answer."""
        premise = conclusion(completion, self.sentences)
        if not premise or not completion.answer:
            return []
        return [(premise, self.hypothesis.format(option)) for option in completion.options]

    def lead(self, completion: Completion, entailments: Sequence[float] | None) -> float:
        """Return by how much the entailment of the chosen option exceeds the highest of the others, at least 0."""
        if completion.answer is None or entailments is None:
            return 0.0
        others = list(entailments)
        chosen = others.pop(LETTERS.index(completion.answer))
        lead = chosen - max(others, default=0.0)
        return float(lead > 0) if self.hard else max(0.0, lead)
