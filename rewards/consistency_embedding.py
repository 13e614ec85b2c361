"""Does the end of the thought mean the chosen option rather than the others, to a sentence encoder?

r = softmax over the options of cos(conclusion, option) / tau, at the chosen one; from 0 to 1, 1/4 where the conclusion
points nowhere. The conclusion is the thought's last sentence. "Therefore the answer is B" and a list of all options
point nowhere. Known hacks: the chosen option's words, copied, deny as well as they affirm (encoders hardly hear "not"),
and no reason need stand before them. Encoder: sentence-transformers (arXiv:1908.10084), all-MiniLM-L6-v2 by default.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
        """All texts of a step are embedded in one call."""
        ends = [[conclusion(c, self.sentences) for c in group] for group in groups]
        texts = sorted({t for g, row in zip(groups, ends, strict=True) for t in (*g.prompt.options, *row)})
        points = dict(zip(texts, groups[0].evidence["embeddings"](texts), strict=True)) if texts else {}
        return [
            [self.share(c, end, points) if group.prompt.options else None for c, end in zip(group, row, strict=True)]
            for group, row in zip(groups, ends, strict=True)
        ]

    def share(self, completion: Completion, end: str, points: dict) -> float:
        """The chosen option's share of what the conclusion means."""
        import numpy as np

        if not end or completion.answer is None:
            return 0.0
        cosines = np.array([points[option] @ points[end] for option in completion.options])
        cosines = cosines.round(4)  # a batch's padding moves the seventh digit: a reply's number is its own
        shares = np.exp((cosines - cosines.max()) / self.tau)
        return float((shares / shares.sum())[LETTERS.index(completion.answer)])
