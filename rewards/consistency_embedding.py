"""To a sentence encoder, is the end of the thought closer to the chosen option than to the others?

r = softmax over the options of cos(conclusion, option) / tau, at the chosen option; from 0 to 1, and 1/4 if the
conclusion is equally close to four options. The conclusion is the last sentence of the thought. "Therefore the answer
is B" and a list of all options are equally close to all. Encoder: sentence-transformers (arXiv:1908.10084),
all-MiniLM-L6-v2 by default.

Known hacks: a copy of the chosen option's words scores the same when it is denied, because encoders hardly react to
"not"; no reason needs to precede it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import ClassVar

from rewards._consistency import Consistency, conclusion
from rlvid.answer import LETTERS
from rlvid.reward import Column
from rlvid.types import Completion, Group


@dataclass(frozen=True)
class ConsistencyEmbedding(Consistency):
    """From 0 to 1, times accuracy with `gated`; None if the prompt has no options."""

    tau: float = 0.05
    sentences: int = 1  # with 2, options that the thought rules out already count (rewards/README.md)

    needs: ClassVar[frozenset[str]] = frozenset({"embeddings", "column:accuracy"})

    def __post_init__(self) -> None:
        if self.tau <= 0 or self.sentences < 1:
            raise ValueError(f"tau must be above 0, sentences 1 or more, not {self.tau} and {self.sentences}")

    def agreement(self, groups: Sequence[Group]) -> Column:
        """Return the chosen options' shares. Embeds all texts in one call and records each option's cosine."""
        conclusions = [[conclusion(completion, self.sentences) for completion in group] for group in groups]
        texts = sorted({text for row in conclusions for text in row} | {o for g in groups for o in g.prompt.options})
        vectors = dict(zip(texts, groups[0].evidence["embeddings"](texts), strict=True)) if texts else {}

        def cosine(a: str, b: str) -> float:
            # Rounded, because padding in a batch changes the seventh digit, and a score must not depend on the batch.
            return round(float(vectors[a] @ vectors[b]), 4)

        column: Column = []
        for group, row in zip(groups, conclusions, strict=True):
            options = group.prompt.options
            cosines = [[cosine(option, end) for option in options] if end else None for end in row]
            group.evidence["consistency_embedding"] = cosines
            if options:
                column.append([self.share(completion, c) for completion, c in zip(group, cosines, strict=True)])
            else:
                column.append([None] * len(group))
        return column

    def share(self, completion: Completion, cosines: Sequence[float] | None) -> float:
        """Return the softmax of the options' cosines at the chosen option; 0 without a conclusion or an answer."""
        if cosines is None or completion.answer is None:
            return 0.0
        weights = [exp((cosine - max(cosines)) / self.tau) for cosine in cosines]
        return weights[LETTERS.index(completion.answer)] / sum(weights)
