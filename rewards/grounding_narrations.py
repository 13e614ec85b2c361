"""Does the thought describe what happened in the video, in order? F1 against narrations that the policy never sees.

r = 2 common / (told + narrated), from 0 to 1, where `common` is the length of the longest common subsequence of what
the thought tells and what the narrations tell. This is ROUGE-L's F1 on content words in their dictionary form, or on
clauses that a sentence encoder finds similar. What the prompt itself contains, in its question and options, counts on
neither side: to repeat it proves nothing. None if nothing is left of the narrations.

Perception-R1 (arXiv:2506.07218) has a judge decide which of the narrated facts occur, and pays their share: a list of
everything that could have happened earns all of it. In ours, each fact that did not happen lowers the score.

Known hacks: a bare list of the facts beats prose, because words of inference count as told; kitchens are alike, so
naming the most common actions earns a little; "she did not open the fridge" counts as opening it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import eq
from typing import Any

from rewards._consistency import times_accuracy
from rewards._words import clauses, count_missing, lemmas, ordered_f1
from rlvid.reward import Column
from rlvid.types import Group


@dataclass(frozen=True)
class GroundingNarrations:
    """From 0 to 1. `by` is "lemma" or "embedding"; two clauses are similar if their cosine is `similar` or more.

    With `gated` it is multiplied by accuracy, and then None also where accuracy does not apply. For audits, four counts
    per completion are recorded as evidence, regardless of order: facts told, told but not narrated, narrated, and
    narrated but not told.
    """

    by: str = "lemma"
    similar: float = 0.6
    leaks: bool = False  # True: what the prompt contains counts too
    gated: bool = False

    def __post_init__(self) -> None:
        if self.by not in ("lemma", "embedding"):
            raise ValueError(f'by must be "lemma" or "embedding", not {self.by!r}')
        if self.by == "lemma" and self.similar != type(self).similar:
            raise ValueError('similar has no effect: words are compared as they are; set by = "embedding", too')

    @property
    def needs(self) -> frozenset[str]:
        """The narrations; the encoder and accuracy if the options require them."""
        needs = {"narrations"}
        if self.by == "embedding":
            needs.add("embeddings")
        if self.gated:
            needs.add("column:accuracy")
        return frozenset(needs)

    def __call__(self, groups: Sequence[Group]) -> Column:
        """Return one row per group."""
        score = self.score_lemmas if self.by == "lemma" else self.score_clauses
        column = [score(group) for group in groups]
        return times_accuracy(column, groups) if self.gated else column

    def score_lemmas(self, group: Group) -> list[float | None]:
        """Return the row of a group, by content words that the prompt does not contain."""
        shown = set() if self.leaks else set(lemmas(group.prompt.text))

        def facts(text: str) -> list[str]:
            return [lemma for lemma in lemmas(text) if lemma not in shown]

        told = [facts(completion.thought or "") for completion in group]
        return self.compare_facts(group, told, facts("\n".join(group.prompt.narrations)))

    def score_clauses(self, group: Group) -> list[float | None]:
        """Return the row of a group, by clauses that are not similar to any option or clause of the question."""
        thoughts = [clauses(completion.thought or "") for completion in group]
        shown = () if self.leaks else (*clauses(group.prompt.question), *group.prompt.options)
        texts = sorted({*group.prompt.narrations, *shown, *(clause for row in thoughts for clause in row)})
        vectors: dict[str, Any] = dict(zip(texts, group.evidence["embeddings"](texts), strict=True))

        def is_similar(a: str, b: str) -> bool:
            return bool(vectors[a] @ vectors[b] >= self.similar)

        def facts(clauses: Sequence[str]) -> list[str]:
            return [clause for clause in clauses if not any(is_similar(clause, other) for other in shown)]

        told = [facts(row) for row in thoughts]
        return self.compare_facts(group, told, facts(group.prompt.narrations), is_similar)

    def compare_facts(
        self, group: Group, told: list[list[str]], narrated: list[str], same: Callable[[str, str], bool] = eq
    ) -> list[float | None]:
        """Return the row of a group, for the facts that each thought tells, and record the counts behind it."""
        if not narrated:
            group.evidence["grounding_narrations"] = [None] * len(told)
            return [None] * len(told)
        group.evidence["grounding_narrations"] = [
            {
                "told": len(facts),
                "not_narrated": count_missing(facts, narrated, same),
                "narrated": len(narrated),
                "not_told": count_missing(narrated, facts, same),
            }
            for facts in told
        ]
        return [ordered_f1(facts, narrated, same) for facts in told]
