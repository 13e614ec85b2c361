"""What is compared with what, on the same questions, and what the data say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlvid.study.response import Response
from rlvid.study.runs import Study
from rlvid.study.stats import Interval, difference, holm, permutation, verdict


@dataclass(frozen=True)
class Comparison:
    """`a` against `b` in one place, a level or a noise cell; `p` is adjusted for all comparisons beside it (Holm)."""

    a: str
    b: str
    place: str
    difference: Interval
    p: float

    @property
    def verdict(self) -> str:
        """In words."""
        return verdict(self.difference, self.p)


def compare(study: Study) -> list[Comparison]:
    """The study's comparisons on every level that both arms have answered."""
    found = []
    for a, b in study.comparisons:
        for level in study.levels:
            paired = [r.seed for r in study.answered(a, level)] == [r.seed for r in study.answered(b, level)]
            x, y = study.column(a, level, "correct"), study.column(b, level, "correct")
            if x is not None and y is not None:
                found.append(_compared(a, b, level, x, y, paired, study.videos(level)))
    return _adjusted(found)


def compare_in_noise(responses: Sequence[Response]) -> list[Comparison]:
    """Every method against the first one in the same noise cell, over the seeds that both have."""
    found = []
    reference = {cell.noise: cell for cell in responses[0].cells} if responses else {}
    for response in responses[1:]:
        for cell in response.cells:
            other = reference.get(cell.noise)
            if other and (seeds := sorted(cell.scores.keys() & other.scores.keys())):
                x, y = (np.stack([c.scores[seed] for seed in seeds]) for c in (cell, other))
                found.append(_compared(cell.method, other.method, cell.noise, x, y, True, response.videos))
    return _adjusted(found)


def _compared(a: str, b: str, place: str, x: np.ndarray, y: np.ndarray, paired: bool, videos: np.ndarray) -> Comparison:
    return Comparison(a, b, place, difference(x, y, paired, videos), permutation(x, y, videos))


def _adjusted(found: Sequence[Comparison]) -> list[Comparison]:
    return [replace(c, p=p) for c, p in zip(found, holm([c.p for c in found]), strict=True)]
