"""How many runs of each arm succeed, for experiments whose runs end in one of two ways.

A run succeeds if its endpoint, the mean of all levels, is above a threshold that was named before the runs, such as
halfway between the base and what right labels teach. Where a run either learns or does not, the mean of an arm
describes none of its runs, and their scatter around it says little about the next one. The chance that a run succeeds
does.

Runs of an arm count as independent, each with the same chance. Nothing is assumed about how far from the threshold they
end. A run that is near it may be on its other side with other questions: choose a threshold far from both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table
from rich.text import Text

from rlvid.study.compared import endpoint_levels, endpoint_scores, unseeded_arms
from rlvid.study.contrasts import UNDECIDED
from rlvid.study.power import ALPHA
from rlvid.study.stats import CONFIDENCE, Interval, holm_adjust
from rlvid.study.study import Study

TITLE = "How many runs succeed"
GAP = 0.1  # between neighbouring runs of an arm; two runs that scatter by 2 points have it once in 2,400 pairs
MORE, LESS = "more often", "less often"
COLORS = {MORE: "green", LESS: "red"}


@dataclass(frozen=True)
class SuccessRow:
    """How many runs of an arm succeeded."""

    arm: str
    threshold: float  # a run whose endpoint on all levels is above it succeeded
    successes: int
    runs: int
    chance: Interval  # that a run succeeds: the share of runs, with the exact interval of Clopper and Pearson (1934)


@dataclass(frozen=True)
class SuccessDifferenceRow:
    """Whether runs of one arm succeed more often than those of another one."""

    a: str
    b: str
    difference: float  # of the shares of runs that succeeded, `a` minus `b`
    p: float  # two-sided, Boschloo's exact test (1970), adjusted for all of the study's comparisons (Holm)
    verdict: str  # "more often", "less often" or "undecided"


@dataclass(frozen=True)
class SplitRow:
    """An arm whose runs end far apart, with `GAP` or more between two neighbours in the order of the endpoint."""

    arm: str
    runs: int
    below: int  # runs below the widest gap
    low: float  # the endpoint of the best run below the gap
    high: float  # the endpoint of the worst run above it


def success_rows(study: Study) -> list[SuccessRow]:
    """Return a row for each arm with a random seed whose runs answered all levels; [] without a threshold."""
    threshold = study.success_threshold
    if threshold is None:
        return []
    counts = {arm: (int((ends > threshold).sum()), len(ends)) for arm, ends in ends_of_runs(study).items()}
    return [SuccessRow(arm, threshold, count, runs, chance(count, runs)) for arm, (count, runs) in counts.items()]


def split_rows(study: Study) -> list[SplitRow]:
    """Return a row for each arm whose runs end far apart; [] where a threshold was named, or scores are not in [0, 1].

    It is for those who did not expect it: a threshold has to be named before the runs that it is applied to.
    """
    if study.success_threshold is not None:
        return []
    rows = []
    for arm, ends in ends_of_runs(study).items():
        if len(ends) < 2 or ends.min() < 0 or ends.max() > 1:
            continue
        ends = np.sort(ends)
        widest = int(np.argmax(np.diff(ends)))
        low, high = float(ends[widest]), float(ends[widest + 1])
        if high - low >= GAP:
            rows.append(SplitRow(arm, len(ends), widest + 1, low, high))
    return rows


def ends_of_runs(study: Study) -> dict[str, np.ndarray]:
    """Return arm -> (S,) endpoint of each run, the mean of all levels: arms with a random seed that have all levels."""
    levels, unseeded = endpoint_levels(study), unseeded_arms(study)
    ends = {}
    for arm, compared in study.compared.items():
        if arm not in unseeded and compared.runs and list(compared.levels) == levels:
            of_level = [scores.mean(axis=1) for scores in endpoint_scores(study, arm).values()]  # (S,) each
            ends[arm] = np.mean(of_level, axis=0)
    return ends


def success_difference_rows(study: Study, rows: Sequence[SuccessRow]) -> list[SuccessDifferenceRow]:
    """Return a row for each planned comparison whose two arms have runs of their own."""
    of_arm = {row.arm: row for row in rows}
    pairs = [
        (of_arm[a], of_arm[b])
        for a, b in study.comparisons
        if a in of_arm and b in of_arm and study.compared[a] is not study.compared[b]
    ]
    ps = holm_adjust([boschloo_p(a.successes, a.runs, b.successes, b.runs) for a, b in pairs])
    return [_difference_row(a, b, p) for (a, b), p in zip(pairs, ps, strict=True)]


def _difference_row(a: SuccessRow, b: SuccessRow, p: float) -> SuccessDifferenceRow:
    difference = a.chance.value - b.chance.value
    verdict = UNDECIDED if p >= ALPHA else MORE if difference > 0 else LESS
    return SuccessDifferenceRow(a.arm, b.arm, difference, p, verdict)


def chance(successes: int, runs: int) -> Interval:
    """Return the share of runs that succeeded, with the exact 95 % interval of Clopper and Pearson (1934).

    >>> ends = chance(0, 10)
    >>> round(ends.low, 3), round(ends.high, 3)
    (0.0, 0.308)
    """
    from scipy.stats import binomtest  # takes a second: not before there is something to count

    ends = binomtest(successes, runs).proportion_ci(CONFIDENCE, method="exact")
    return Interval(successes / runs, float(ends.low), float(ends.high))


def boschloo_p(successes: int, runs: int, other_successes: int, other_runs: int) -> float:
    """Return the two-sided p-value of Boschloo's exact test (1970): do two arms have the same chance to succeed?

    It is twice the smaller one-sided one: the largest probability, over all chances that both may share, of a table
    whose p-value of Fisher's test is as small. So it keeps its error rate for any number of runs, and finds more than
    Fisher's test. SciPy's `barnard_exact` is not used: it misses some tables that are exactly as extreme.
    """
    from scipy.stats import boschloo_exact

    if successes + other_successes in (0, runs + other_runs):
        return 1.0  # all runs ended alike
    table = [[successes, other_successes], [runs - successes, other_runs - other_successes]]
    return float(boschloo_exact(table, alternative="two-sided").pvalue)


def success_tables(
    rows: Sequence[SuccessRow], differences: Sequence[SuccessDifferenceRow], endpoint: str
) -> list[Table | Text]:
    """Return a title, a table of the arms, one of their comparisons, and words on what a success is."""
    title = Text(TITLE, style="bold")
    arms = Table("arm", "succeeded", "%", "95 % interval", box=None)
    for row in rows:
        low, high = (f"{100 * end:.0f}" for end in (row.chance.low, row.chance.high))
        cells = f"{row.successes} of {row.runs}", f"{100 * row.chance.value:.0f}", f"{low} to {high}"
        arms.add_row(Text(row.arm), *cells)
    words = (
        f"A run succeeds if its {endpoint}, the mean of all levels, is above {rows[0].threshold:g}, a threshold that "
        "was named before the runs. Intervals of the chance to succeed are those of Clopper and Pearson, each for "
        "itself. Runs count as independent; one near the threshold may be on its other side with other questions."
    )
    if not differences:
        return [title, arms, Text(words, "dim")]
    compared = Table("comparison", "% of runs", "p", "succeeds", box=None)
    for each in differences:
        p = "<.001" if each.p < 0.001 else f"{each.p:.3f}".lstrip("0")
        verdict = Text(each.verdict, COLORS.get(each.verdict, ""))
        compared.add_row(Text(f"{each.a}\nagainst {each.b}"), f"{100 * each.difference:+.0f}", p, verdict)
    words += (
        " p: Boschloo's exact test, adjusted for all comparisons of this table (Holm). These verdicts are a family of "
        "their own beside the comparisons above, with another 5 % of error rate."
    )
    return [title, arms, compared, Text(words, "dim")]


def split_section(rows: Sequence[SplitRow], endpoint: str) -> list[Table | Text]:
    """Return words on the arms whose runs end far apart, and what to do about it."""
    arms = "; ".join(
        f"{row.arm}: {row.below} of {row.runs} at {100 * row.low:.1f} or less, the others from {100 * row.high:.1f} on"
        for row in rows
    )
    return [
        Text(f"Runs of an arm end far apart. {arms}.", style="yellow"),
        Text(
            f"On all levels, {endpoint} in percent. A mean describes no such run, and few seeds say little about the "
            "next one. To compare how many succeed, name Grid(success_threshold=...) and new seeds before more runs.",
            style="dim",
        ),
    ]
