"""Compare arms on the same questions: which pairs of arms are compared, and what the data show about each pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rlvid.study.noise_response import NoiseResponse
from rlvid.study.power import ALPHA, EQUIVALENCE_MARGIN, Needed, classify_difference, needed_sample
from rlvid.study.stats import Interval, design_effect, difference_interval, holm_adjust, permutation_test
from rlvid.study.study import Study


@dataclass(frozen=True, eq=False)
class ArmPair:
    """The scores of arms `a` and `b` on the same questions, in one condition: on a level, or under a noise."""

    a: str
    b: str
    condition: str
    a_scores: np.ndarray  # (S, Q)
    b_scores: np.ndarray  # (S', Q)
    seeds_paired: bool  # row i of both has the same seed
    videos: np.ndarray  # (Q,), see `Study.video_ids`

    @cached_property
    def p(self) -> float:
        """The p-value of the exact test."""
        return permutation_test(self.a_scores, self.b_scores, self.videos)

    @property
    def discordance(self) -> float:
        """The share of questions on which a seed of `a` and a seed of `b` disagree, times the design effect."""
        disagreement = np.mean(self.a_scores[:, None] != self.b_scores[None])
        mean_difference = self.a_scores.mean(0)[None] - self.b_scores.mean(0)
        return float(disagreement) * design_effect(mean_difference, self.videos)


@dataclass(frozen=True)
class Comparison:
    """What a pair of arms shows: one row of the tables of comparisons."""

    a: str
    b: str
    condition: str  # a level or a noise
    difference: Interval  # accuracy of `a` minus that of `b`
    p: float  # adjusted for all comparisons of the table (Holm)
    verdict: str  # see `classify_difference`
    needed: Needed  # at an error rate divided by the number of comparisons (Bonferroni)


def level_pairs(study: Study) -> list[ArmPair]:
    """Return the study's planned comparisons, on every level that both arms have answered."""
    pairs = []
    for a, b in study.comparisons:
        for level in study.levels:
            a_scores, b_scores = study.column(a, level, "correct"), study.column(b, level, "correct")
            if a_scores is None or b_scores is None:
                continue
            a_seeds, b_seeds = ([run.seed for run in study.runs_on(arm, level)] for arm in (a, b))
            pairs.append(ArmPair(a, b, level, a_scores, b_scores, a_seeds == b_seeds, study.video_ids(level)))
    return pairs


def noise_pairs(responses: Sequence[NoiseResponse]) -> list[ArmPair]:
    """Compare every method with the first one under the same noise, over the seeds that both have."""
    if not responses:
        return []
    reference = {cell.noise: cell for cell in responses[0].cells}
    pairs = []
    for response in responses[1:]:
        for cell in response.cells:
            other = reference.get(cell.noise)
            same_runs = other and cell.folders and cell.folders == other.folders  # one run under two names
            if not other or same_runs:
                continue
            if seeds := sorted(cell.scores.keys() & other.scores.keys()):
                scores, other_scores = (np.stack([c.scores[seed] for seed in seeds]) for c in (cell, other))
                pair = ArmPair(cell.method, other.method, cell.noise, scores, other_scores, True, response.videos)
                pairs.append(pair)
    return pairs


def compare_pairs(pairs: Sequence[ArmPair], equivalence_margin: float = EQUIVALENCE_MARGIN) -> list[Comparison]:
    """Return what each pair shows; p-values are adjusted for all of them together."""
    comparisons = []
    for pair, p in zip(pairs, holm_adjust([pair.p for pair in pairs]), strict=True):
        scores = (pair.a_scores, pair.b_scores, pair.seeds_paired, pair.videos)
        difference = difference_interval(*scores)
        verdict = classify_difference(difference, p, equivalence_margin=equivalence_margin)
        needed = needed_sample(*scores, ALPHA / len(pairs))
        comparisons.append(Comparison(pair.a, pair.b, pair.condition, difference, p, verdict, needed))
    return comparisons
