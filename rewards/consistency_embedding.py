"""Does the end of the thought mean the chosen option rather than the others, to a sentence encoder?

r = softmax over the options of cos(conclusion, option) / tau, at the chosen one; from 0 to 1, 1/4 where the conclusion
points nowhere. The conclusion is the thought's last sentence. "Therefore the answer is B" and a list of all options
point nowhere. Known hacks: the chosen option's words, copied, deny as well as they affirm (encoders hardly hear "not"),
and no reason need stand before them. Encoder: sentence-transformers (arXiv:1908.10084), all-MiniLM-L6-v2 by default.
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
    """From 0 to 1, times accuracy unless `gated` is off; None where the prompt has no options."""

    tau: float = 0.05
    sentences: int = 1  # two already take in the options that a thought sets aside (rewards/README.md)

    needs: ClassVar[frozenset[str]] = frozenset({"embeddings", "column:accuracy"})

    def agreement(self, groups: Sequence[Group]) -> Column:
        """All texts of a step are embedded in one call; each option's cosine is kept in the samples."""
        ends = [[conclusion(c, self.sentences) for c in group] for group in groups]
        texts = sorted({t for g, row in zip(groups, ends, strict=True) for t in (*g.prompt.options, *row)})
        points = dict(zip(texts, groups[0].evidence["embeddings"](texts), strict=True)) if texts else {}
        for group, row in zip(groups, ends, strict=True):
            cosines = [
                [round(float(points[option] @ points[end]), 4) for option in group.prompt.options] if end else None
                for end in row  # rounded: a batch's padding moves the seventh digit, and a reply's number is its own
            ]
            group.evidence["consistency_embedding"] = cosines
        return [
            [self.share(c, told) for c, told in zip(group, group.evidence["consistency_embedding"], strict=True)]
            if group.prompt.options
            else [None] * len(group)
            for group in groups
        ]

    def share(self, completion: Completion, cosines: Sequence[float] | None) -> float:
        """The chosen option's share of what the conclusion means."""
        if cosines is None or completion.answer is None:
            return 0.0
        shares = [exp((cosine - max(cosines)) / self.tau) for cosine in cosines]
        return shares[LETTERS.index(completion.answer)] / sum(shares)
