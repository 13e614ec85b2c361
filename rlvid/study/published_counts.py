"""Published counts, of which nobody kept who was right where: how many of how many questions each arm got right.

A TOML file has `question`, `of` (level -> questions) and `right` (arm -> level -> right answers); `comparisons`, pairs
of arms, are with the first arm where they are left out. `source` says where the counts are from; arms are equivalent
`equivalence_margin` 0.03, unless it is given.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlvid.errors import UserError
from rlvid.registry import suggest
from rlvid.study.comparison import Comparison
from rlvid.study.power import ALPHA, EQUIVALENCE_MARGIN, needed_of_shares
from rlvid.study.stats import difference_of_shares, holm, wilson
from rlvid.study.tables import verdicts

KEYS = ("question", "source", "of", "right", "comparisons", "equivalence_margin")
WORDS = (
    "Intervals of accuracies are Wilson's, of differences Newcombe's; p is of the two-sided z-test, adjusted for all "
    "{count} comparisons here (Holm). Which questions were right is not known, so nothing is paired, and one run each "
    "says nothing about other seeds. Better or worse needs p < .05 and an interval without 0; equivalent, an interval "
    "within {equivalence_margin:g} points of 0. Times: so many times the questions would show what was observed with "
    "80 % power."
)


@dataclass(frozen=True)
class Counts:
    """Right answers by arm and level."""

    question: str
    source: str
    of: Mapping[str, int]
    right: Mapping[str, Mapping[str, int]]
    comparisons: Sequence[tuple[str, str]]
    equivalence_margin: float = EQUIVALENCE_MARGIN


def read(path: Path) -> Counts:
    """UserError where the file is none, or its counts cannot be."""
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as TOML: {error}") from error
    for key in table:
        if key not in KEYS:
            raise UserError(f"{path}: unknown key {key!r}.{suggest(key, KEYS)}")
    of, right = table.get("of"), table.get("right")
    if not isinstance(of, dict) or not isinstance(right, dict) or not of or not right:
        raise UserError(f"{path}: needs [of], level = questions, and [right.ARM], level = right answers")
    for arm, counts in right.items():
        for level in counts if isinstance(counts, dict) else ("",):
            if level not in of:
                raise UserError(f"{path}: right.{arm} has no level {level!r} of [of].{suggest(level, of)}")
            if not all(type(n) is int for n in (counts[level], of[level])) or not 0 <= counts[level] <= of[level] > 0:
                raise UserError(f"{path}: right.{arm}: {level} must be whole, of {of[level]}: not {counts[level]!r}")
    first, *others = right
    comparisons = [tuple(pair) for pair in table.get("comparisons", [(arm, first) for arm in others])]
    for pair in comparisons:
        if len(pair) != 2 or any(arm not in right for arm in pair):
            raise UserError(f"{path}: comparisons: {list(pair)} must be two of the arms, {', '.join(right)}")
    if (
        not isinstance(equivalence_margin := table.get("equivalence_margin", EQUIVALENCE_MARGIN), float)
        or not 0 < equivalence_margin < 1
    ):
        raise UserError(f"{path}: equivalence_margin must be a share such as 0.03, not {equivalence_margin!r}")
    return Counts(
        str(table.get("question", path.stem)), str(table.get("source", "")), of, right, comparisons, equivalence_margin
    )


def compare(counts: Counts) -> list[Comparison]:
    """What each pair of arms shows on the levels that both have, as one family of comparisons."""
    places = [(a, b, level) for a, b in counts.comparisons for level in counts.of if level in counts.right[a]]
    places = [(a, b, level) for a, b, level in places if level in counts.right[b]]
    shares = [(counts.right[a][k], counts.of[k], counts.right[b][k], counts.of[k]) for a, b, k in places]
    found = [difference_of_shares(*each) for each in shares]
    return [
        Comparison(*place, gap, p, needed_of_shares(*each, ALPHA / len(places)), counts.equivalence_margin)
        for place, each, (gap, _), p in zip(places, shares, found, holm([p for _, p in found]), strict=True)
    ]


def report(path: Path, console: Console | None = None) -> None:
    """Print the counts' accuracies with their intervals, the comparisons and their verdicts."""
    counts, console = read(path), console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=140, highlight=False)
    table = Table("arm", *(f"{level} [dim]n={n}" for level, n in counts.of.items()), box=None, padding=(0, 2, 0, 0))
    for arm, right in counts.right.items():
        shares = {level: wilson(right[level], n) for level, n in counts.of.items() if level in right}
        cells = {k: f"[bold]{100 * i.value:.1f}[/]\n{100 * i.low:.1f}–{100 * i.high:.1f}" for k, i in shares.items()}
        table.add_row(Text(arm), *(cells.get(level, "–") for level in counts.of))
    console.print(Text(counts.question, style="bold"), Text(counts.source, style="dim"), "", table, "", sep="\n")
    if found := compare(counts):
        words = WORDS.format(count=len(found), equivalence_margin=100 * counts.equivalence_margin)
        console.print(verdicts(found, console.width >= 100), Text(words, style="dim"), sep="\n")
