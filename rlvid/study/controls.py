"""Whether the controls of a study came out: without them, its other comparisons cannot be read.

A positive control must be better by the design of the experiment, such as a reward that pays what is measured. If it is
not, the experiment cannot show an effect. A negative control must not be better, such as a random reward. If it is, the
experiment shows effects that are not there. It comes out only where the upper end of its interval is below the margin
of equivalence: an interval that leaves room for a gain, as with few seeds, shows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from rlvid.study.comparison import Comparison
from rlvid.study.contrasts import NO_LOOK, ONE_SEED
from rlvid.study.seed_model import ALL_LEVELS
from rlvid.study.stats import Interval
from rlvid.study.study import Study
from rlvid.study.tables import NONE, signed_ends

BETTER = "better"
UNREADABLE = "The other comparisons cannot be read: a control did not come out, or is not known."
OUTCOMES = {True: ("came out", "green"), False: ("did not come out", "bold red"), None: ("not known", "bold yellow")}
READABLE = "All controls came out: the other comparisons can be read."
RESERVATION = (
    "The other comparisons can be read with a reservation: a negative control could not show that it is not better. "
    "More seeds would tell whether the experiment shows effects that are not there."
)


@dataclass(frozen=True)
class ControlRow:
    """One control, on all levels together."""

    kind: str  # "positive" or "negative"
    a: str
    b: str
    difference: Interval | None  # of the endpoint, `a` minus `b`; None if it has not run
    verdict: str  # as of the comparison; "" if it has not run
    came_out: bool | None  # None: not known: no runs or looks, one seed only, or a negative one may be better

    @property
    def has_verdict(self) -> bool:
        """Whether it has run with enough seeds for a verdict, be it "undecided"."""
        return self.verdict not in ("", ONE_SEED, NO_LOOK)


def control_rows(study: Study, comparisons: Sequence[Comparison]) -> list[ControlRow]:
    """Return a row for each control of the study, positive ones first."""
    decided = {(row.a, row.b): row for row in comparisons if row.condition.startswith(ALL_LEVELS)}
    rows = []
    for kind, pairs in (("positive", study.positive_controls), ("negative", study.negative_controls)):
        for a, b in pairs:
            row = decided.get((a, b))
            verdict, difference = (row.verdict, row.difference) if row else ("", None)
            came_out = _came_out(kind, verdict, difference, study.equivalence_margin)
            rows.append(ControlRow(kind, a, b, difference, verdict, came_out))
    return rows


def _came_out(kind: str, verdict: str, difference: Interval | None, margin: float) -> bool | None:
    """Whether a control came out; None: not known. `margin` is that of equivalence, a share."""
    if difference is None or verdict in (ONE_SEED, NO_LOOK):
        return None
    if kind == "positive":
        return verdict == BETTER
    if verdict == BETTER:
        return False
    return True if difference.high < margin else None


def controls_section(rows: Sequence[ControlRow], endpoint: str) -> list[Table | Text]:
    """Return a table of the controls, what it is about, and whether the other comparisons can be read."""
    table = Table("control", "", "points", "95 % interval", "verdict", "expected", "", box=None)
    for row in rows:
        points, ends = NONE, ""
        if row.difference:
            points = f"{100 * row.difference.value:+.1f}"
            ends = NONE if row.verdict == NO_LOOK else signed_ends(row.difference)
        expected = BETTER if row.kind == "positive" else f"not {BETTER}"
        outcome = OUTCOMES[row.came_out]
        name = Text(f"{row.a}\nagainst {row.b}")
        table.add_row(row.kind, name, points, ends, row.verdict or "not compared", expected, Text(*outcome))
    return [table, Text(f"Points: difference of {endpoint}.", "dim"), _readable(rows)]


def _readable(rows: Sequence[ControlRow]) -> Text:
    """Return the line that says whether the comparisons that are no controls can be read."""
    if all(row.came_out for row in rows):
        return Text(READABLE, "green")
    if all(row.came_out or (row.kind == "negative" and row.came_out is None and row.has_verdict) for row in rows):
        return Text(RESERVATION, "bold yellow")
    return Text(UNREADABLE, "bold red")
