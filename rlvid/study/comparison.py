"""What is compared with what, on the same questions, and what the data say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rlvid.study.noise_response import Response
from rlvid.study.power import ALPHA, EQUIVALENCE_MARGIN, Needed, needed, verdict
from rlvid.study.runs import Study
from rlvid.study.stats import Interval, design_effect, difference, holm, permutation


@dataclass(frozen=True, eq=False)
class Pair:
    """Arm `a` and arm `b` in one place, a level or a noise cell: their answers to the same questions."""

    a: str
    b: str
    place: str
    scores: np.ndarray  # (S, Q) of a
    others: np.ndarray  # (S', Q) of b
    paired: bool  # by seed, row by row
    videos: np.ndarray  # (Q,)

    @cached_property
    def p(self) -> float:
        """By the exact test."""
        return permutation(self.scores, self.others, self.videos)

    @property
    def discordance(self) -> float:
        """The share of questions on which a seed of one and a seed of the other disagree, times the design effect."""
        disagree = np.mean(self.scores[:, None] != self.others[None])
        return float(disagree) * design_effect(self.scores.mean(0)[None] - self.others.mean(0), self.videos)


@dataclass(frozen=True)
class Comparison:
    """What a pair shows; `p`, and what is needed, are adjusted for all comparisons beside it (Holm, Bonferroni)."""

    a: str
    b: str
    place: str
    difference: Interval
    p: float
    needed: Needed
    equivalence_margin: float = EQUIVALENCE_MARGIN

    @property
    def verdict(self) -> str:
        """In words."""
        return verdict(self.difference, self.p, equivalence_margin=self.equivalence_margin)


def pairs(study: Study) -> list[Pair]:
    """The study's comparisons on every level that both arms have answered."""
    found = []
    for a, b in study.comparisons:
        for level in study.levels:
            same = [r.seed for r in study.answered(a, level)] == [r.seed for r in study.answered(b, level)]
            x, y = study.column(a, level, "correct"), study.column(b, level, "correct")
            if x is not None and y is not None:
                found.append(Pair(a, b, level, x, y, same, study.videos(level)))
    return found


def pairs_in_noise(responses: Sequence[Response]) -> list[Pair]:
    """Every method with the first one in the same noise cell, over the seeds that both have."""
    found = []
    reference = {cell.noise: cell for cell in responses[0].cells} if responses else {}
    for response in responses[1:]:
        for cell in response.cells:
            other = reference.get(cell.noise)
            if other and cell.runs and cell.runs == other.runs:
                continue  # the same runs under another name
            if other and (seeds := sorted(cell.scores.keys() & other.scores.keys())):
                x, y = (np.stack([c.scores[seed] for seed in seeds]) for c in (cell, other))
                found.append(Pair(cell.method, other.method, cell.noise, x, y, True, response.videos))
    return found


def compare(pairs: Sequence[Pair], equivalence_margin: float = EQUIVALENCE_MARGIN) -> list[Comparison]:
    """What each pair shows, as one family of comparisons."""
    return [
        Comparison(
            *(pair.a, pair.b, pair.place),
            difference(pair.scores, pair.others, pair.paired, pair.videos),
            p,
            needed(pair.scores, pair.others, pair.paired, pair.videos, ALPHA / len(pairs)),
            equivalence_margin,
        )
        for pair, p in zip(pairs, holm([pair.p for pair in pairs]), strict=True)
    ]
