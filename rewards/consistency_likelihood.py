"""A bonus for right answers that their own reasoning makes likely, to the reference (GRPO-CARE, arXiv:2506.16141).

c = min(p(answer | prompt, thought), `ceiling`) under the reference. Among the accurate of a group, those with accuracy
at least the group's mean (and over 0.1), the bonus is `bonus` times accuracy where c >= mean c - `margin`, else 0.

Known flaws, kept: the reference sees the video too, so it may find the answer likely whatever the thought says; the bar
is relative, so if no thought is worth anything the better half is still paid; at the ceiling all right answers are paid
alike, and under a group's normalisation that is nothing. `gain` replaces c by log p(answer | thought, no pixels) -
log p(answer | prompt, no thought) and pays no gain below 0: a thought has to carry at least what the pixels say. Known
hack that remains: "the answer is B" carries it.

Published code takes the geometric mean over the answer's tokens, with the batch for the group; here an answer is one
letter, its probability taken among the options' letters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from statistics import fmean
from typing import ClassVar

from rewards._consistency import lay
from rlvid.answer import LETTERS
from rlvid.reward import Column
from rlvid.types import Group, Likelihood

_FLOOR = 1e-6  # of a probability whose logarithm is taken


@dataclass(frozen=True)
class ConsistencyLikelihood:
    """`bonus` times accuracy, or 0; without a thought or an answer there is nothing to be consistent, and it is 0."""

    bonus: float = 0.5
    margin: float = 0.0  # 0.01 in the paper's runs on general videos
    ceiling: float = 0.95
    gain: bool = False

    needs: ClassVar[frozenset[str]] = frozenset({"answer_likelihood", "column:accuracy"})

    def __call__(self, groups: Sequence[Group]) -> Column:
        """One row per group."""
        return [self.score(group) for group in groups]

    def score(self, group: Group) -> list[float | None]:
        """A group's row."""
        right = [accuracy or 0.0 for accuracy in group["accuracy"]]
        likely = zip(group, group.evidence["answer_likelihood"], strict=True)
        support = [self.support(told, c.answer) if told and c.answer else None for c, told in likely]
        lay(self, group, [self.agrees(s) for s in support])
        accurate = [a > 0.1 and a >= fmean(right) for a in right]
        bar = fmean([s for s, counts in zip(support, accurate, strict=True) if s is not None and counts] or [0.0])
        bar = (max(bar, 0.0) if self.gain else bar) - self.margin - 1e-9  # a mean of equals may round above them
        return [
            self.bonus * a if counts and s is not None and s >= bar else 0.0
            for a, counts, s in zip(right, accurate, support, strict=True)
        ]

    def agrees(self, support: float | None) -> float:
        """For audits, right or wrong: c; of a gain, whether there is any."""
        return 0.0 if support is None else float(support > 0) if self.gain else support

    def support(self, told: Likelihood, answer: str) -> float:
        """How likely the thought makes the answer: c, or the gain in log-probability."""
        place = LETTERS.index(answer)
        if not self.gain:
            return min(told.full[place], self.ceiling)
        bare, seen = (max(min(p[place], self.ceiling), _FLOOR) for p in (told.no_video, told.no_reasoning))
        return log(bare) - log(seen)
