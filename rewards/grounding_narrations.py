"""Does the thought tell what happened in the video, in order? F1 against the data set's narrations, never shown to it.

r = 2 common / (told + narrated), from 0 to 1: the longest common subsequence of what the thought says and what the
narrations say (ROUGE-L's F, on content words in their dictionary form, or on clauses that a sentence encoder finds
alike). What the prompt itself says, in its question and options, counts on neither side: to repeat it proves nothing.
None where nothing is left of the narrations.

Perception-R1 (arXiv:2506.07218) asks a judge which of the narrated facts occur, and pays the share: a list of all that
could have happened earns all of it. Here each fact that did not happen costs. Known hacks: a bare list of the facts
beats prose, as words of inference count as told; kitchens are alike, so stuffing in the commonest acts earns a little;
"she did not open the fridge" counts as opening it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import eq
from typing import Any

from rewards._consistency import times
from rewards._words import clauses, lemmas, ordered_f1, strays
from rlvid.reward import Column
from rlvid.types import Group


@dataclass(frozen=True)
class GroundingNarrations:
    """From 0 to 1. `by` "lemma" or "embedding"; two clauses are alike from a cosine of `similar` on.

    `gated`: times accuracy; None then also where accuracy does not apply. How many facts each thought tells, how many
    of them were not narrated, how many were narrated, and how many of these it does not tell, is laid on each group's
    evidence for audits, whatever their order.
    """

    by: str = "lemma"
    similar: float = 0.6
    leaks: bool = False  # True: what the prompt says counts, too
    gated: bool = False

    def __post_init__(self) -> None:
        if self.by not in ("lemma", "embedding"):
            raise ValueError(f'by must be "lemma" or "embedding", not {self.by!r}')

    @property
    def needs(self) -> frozenset[str]:
        """The narrations, and the encoder and the verdict where they are asked."""
        asked = {"embeddings": self.by == "embedding", "column:accuracy": self.gated}
        return frozenset({"narrations", *(need for need, wanted in asked.items() if wanted)})

    def __call__(self, groups: Sequence[Group]) -> Column:
        """One row per group."""
        rows = [self.words(group) if self.by == "lemma" else self.meanings(group) for group in groups]
        return [times(row, group["accuracy"]) for row, group in zip(rows, groups, strict=True)] if self.gated else rows

    def words(self, group: Group) -> list[float | None]:
        """By content words that the prompt does not say."""
        shown = set() if self.leaks else {*lemmas(group.prompt.text)}
        narrated, *told = (
            [lemma for lemma in lemmas(text) if lemma not in shown]
            for text in ("\n".join(group.prompt.narrations), *(c.thought or "" for c in group))
        )
        return self.compared(group, told, narrated)

    def meanings(self, group: Group) -> list[float | None]:
        """By clauses that are not alike any option."""
        told = [clauses(c.thought or "") for c in group]
        shown = () if self.leaks else group.prompt.options
        texts = sorted({*group.prompt.narrations, *shown, *(clause for row in told for clause in row)})
        points: dict[str, Any] = dict(zip(texts, group.evidence["embeddings"](texts), strict=True))

        def alike(a: str, b: str) -> bool:
            return bool(points[a] @ points[b] >= self.similar)

        narrated, *told = (
            [text for text in row if not any(alike(text, option) for option in shown)]
            for row in (group.prompt.narrations, *told)
        )
        return self.compared(group, told, narrated, alike)

    def compared(
        self, group: Group, told: list[list[str]], narrated: list[str], same: Callable[[str, str], bool] = eq
    ) -> list[float | None]:
        """The row, and the counts behind it."""
        group.evidence["grounding_narrations"] = [
            {
                "told": len(facts),
                "not_narrated": strays(facts, narrated, same),
                "narrated": len(narrated),
                "not_told": strays(narrated, facts, same),
            }
            if narrated
            else None
            for facts in told
        ]
        return [ordered_f1(facts, narrated, same) if narrated else None for facts in told]
