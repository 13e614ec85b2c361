"""Published counts: how many questions each arm got right, without which ones they were.

A TOML file has `of` (level -> questions) and `right` (arm -> level -> right answers). Optional are `question`, a title;
`source`, where the counts are from; `comparisons`, pairs of arms (default: each arm with the first one);
`equivalence_margin` (default: 0.03); and `left_out`, which published rows are not here and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from rlvid.errors import UserError
from rlvid.registry import suggest
from rlvid.study.comparison import Comparison
from rlvid.study.contrasts import Needed
from rlvid.study.power import ALPHA, EQUIVALENCE_MARGIN, classify_difference, needed_questions
from rlvid.study.report import Report
from rlvid.study.rows import AccuracyRow, ArmRow, LevelRow
from rlvid.study.stats import difference_of_proportions, holm_adjust, wilson_interval
from rlvid.utils.files import read_toml

KEYS = ("question", "source", "of", "right", "comparisons", "equivalence_margin", "left_out")


@dataclass(frozen=True)
class PublishedCounts:
    """Right answers by arm and level."""

    name: str
    question: str
    source: str
    of: Mapping[str, int]  # level -> questions
    right: Mapping[str, Mapping[str, int]]  # arm -> level -> right answers
    comparisons: Sequence[tuple[str, str]]  # (arm, other arm)
    equivalence_margin: float = EQUIVALENCE_MARGIN
    left_out: str = ""  # published rows without counts, and why


def read_counts(path: Path) -> PublishedCounts:
    """Read a TOML file of counts; one with `left_out` may have none.

    Raises:
        UserError: if it cannot be read, or if the counts are impossible.
    """
    table = read_toml(path)
    for key in table:
        if key not in KEYS:
            raise UserError(f"{path}: unknown key {key!r}.{suggest(key, KEYS)}")
    has_none = "left_out" in table and "of" not in table and "right" not in table
    of, right = table.get("of", {}), table.get("right", {})
    if not isinstance(of, dict) or not isinstance(right, dict) or not (has_none or (of and right)):
        raise UserError(f"{path}: needs [of], level = questions, and [right.ARM], level = right answers")
    for arm, counts in right.items():
        _check_counts(path, arm, counts, of)
    return PublishedCounts(
        name=path.stem,
        question=str(table.get("question", path.stem)),
        source=str(table.get("source", "")),
        of=of,
        right=right,
        comparisons=_read_comparisons(path, table.get("comparisons"), list(right)),
        equivalence_margin=_read_margin(path, table.get("equivalence_margin", EQUIVALENCE_MARGIN)),
        left_out=str(table.get("left_out", "")),
    )


def _check_counts(path: Path, arm: str, counts: Any, of: Mapping[str, Any]) -> None:
    """Raise UserError unless an arm's counts are whole numbers of right answers, at most the level's questions."""
    for level in counts if isinstance(counts, dict) else ("",):
        if level not in of:
            raise UserError(f"{path}: right.{arm} has no level {level!r} of [of].{suggest(level, of)}")
        correct, total = counts[level], of[level]
        if type(total) is not int or total < 1:
            raise UserError(f"{path}: of.{level} must be a whole number of questions, 1 or more, not {total!r}")
        if type(correct) is not int or not 0 <= correct <= total:
            raise UserError(f"{path}: right.{arm}: {level} must be a whole number from 0 to {total}, not {correct!r}")


def _read_comparisons(path: Path, pairs: Any, arms: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of arms to compare; by default each arm with the first one."""
    if pairs is None:
        return [(arm, arms[0]) for arm in arms[1:]]
    for pair in pairs if isinstance(pairs, list) else [pairs]:
        if not isinstance(pair, list) or len(pair) != 2 or any(arm not in arms for arm in pair):
            raise UserError(f"{path}: comparisons: {pair!r} must be two of the arms, {', '.join(arms)}")
    return [(arm, other) for arm, other in pairs]


def _read_margin(path: Path, margin: Any) -> float:
    if not isinstance(margin, float) or not 0 < margin < 1:
        raise UserError(f"{path}: equivalence_margin must be a share such as 0.03, not {margin!r}")
    return margin


def compare_counts(counts: PublishedCounts) -> list[Comparison]:
    """Compare each pair of arms on the levels that both have; p-values are adjusted for all comparisons together."""
    right, of = counts.right, counts.of
    conditions = [
        (a, b, level) for a, b in counts.comparisons for level in of if level in right[a] and level in right[b]
    ]
    proportions = [(right[a][level], of[level], right[b][level], of[level]) for a, b, level in conditions]
    tests = [difference_of_proportions(*each) for each in proportions]
    adjusted = holm_adjust([p for _, p in tests])
    comparisons = []
    for (a, b, level), each, (difference, _), p in zip(conditions, proportions, tests, adjusted, strict=True):
        verdict = classify_difference(difference, p, equivalence_margin=counts.equivalence_margin)
        needed = Needed(inf, needed_questions(*each, ALPHA / len(conditions)))
        comparisons.append(Comparison(a, b, level, difference, None, p, None, verdict, needed))
    return comparisons


def build_counts_report(counts: PublishedCounts) -> Report:
    """Compute the rows of the accuracies and comparisons."""
    return Report(
        name=counts.name,
        question=counts.question,
        source=counts.source,
        control=next(iter(counts.right)),
        equivalence_margin=counts.equivalence_margin,
        paired=False,
        arms=[ArmRow(arm, None, None) for arm in counts.right],
        levels=[LevelRow(level, total) for level, total in counts.of.items()],
        accuracies=[
            AccuracyRow(arm, level, wilson_interval(right[level], total) if level in right else None)
            for arm, right in counts.right.items()
            for level, total in counts.of.items()
        ],
        comparisons=compare_counts(counts),
    )
