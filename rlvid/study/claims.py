"""A folder of published counts: what each paper's own numbers carry, claim by claim.

A claim is a comparison that a file names, on one level. p-values are adjusted by Holm's method within a file, as for
one file. One run per method leaves out how seeds scatter, so even a claim that holds here holds for those runs only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table
from rich.text import Text

from rlvid.study import footnotes, tables
from rlvid.study.published_counts import PublishedCounts, build_counts_report, read_counts
from rlvid.study.report import Report
from rlvid.study.sections import Section

NOTE = (
    "Claims: comparisons times levels. Shown: the difference has the claimed sign, p < .05 after Holm's adjustment for "
    "all claims of the file, and Newcombe's 95 % interval excludes 0. Which questions were right is not published, so "
    "nothing is paired: a paired test of the same answers can show more. One run per method does not show how seeds "
    "vary, so what is shown here is shown for those runs only."
)


@dataclass(frozen=True)
class ClaimRow:
    """What the claims of one file come to."""

    file: str
    question: str
    source: str
    claims: int
    shown: int  # "better", as claimed
    contrary: int  # "worse"
    equivalent: int
    undecided: int
    left_out: str  # published rows without counts, and why


@dataclass(frozen=True, kw_only=True, repr=False)
class ClaimsReport(Report):
    """The report on a folder of published counts: a row for each file, then every claim."""

    claims: Sequence[ClaimRow] = ()

    def sections(self, width: int) -> Iterator[Section]:
        """Yield the table of files, then the comparisons of each file."""
        yield "Claims", [_claims_table(self.claims), Text(NOTE, style="dim"), *_left_out(self.claims)]
        for row in self.claims:
            if own := [one for one in self.comparisons if one.condition.startswith(f"{row.file}: ")]:
                table = tables.comparison_table(
                    [replace(one, condition=one.condition.removeprefix(f"{row.file}: ")) for one in own], width
                )
                yield (
                    row.file,
                    [Text(f"{row.file}: {row.question}", style="bold"), Text(row.source, style="dim"), table],
                )
        yield "Comparisons", [Text(footnotes.COUNTED_COMPARISONS, style="dim")]


def is_counts_folder(folder: Path) -> bool:
    """Return whether a folder holds TOML files of counts and no runs."""
    has_runs = any(folder.glob("config.toml")) or any(folder.glob("*/config.toml"))
    return folder.is_dir() and not has_runs and any(folder.glob("*.toml"))


def build_claims_report(folder: Path) -> ClaimsReport:
    """Compute the claims of all files of a folder, by name. Raises UserError as `read_counts` does."""
    counts = [read_counts(path) for path in sorted(folder.glob("*.toml"))]
    reports = [build_counts_report(one) for one in counts if one.right]
    by_name = {report.name: report for report in reports}
    comparisons = [
        replace(row, condition=f"{report.name}: {row.condition}") for report in reports for row in report.comparisons
    ]
    return ClaimsReport(
        name=folder.name,
        question="What do published numbers show by themselves?",
        source=f"{len(counts)} files of {folder}",
        control="",
        equivalence_margin=max(one.equivalence_margin for one in counts),
        paired=False,
        comparisons=comparisons,
        claims=[_claim_row(one, by_name.get(one.name)) for one in counts],
    )


def _claim_row(counts: PublishedCounts, report: Report | None) -> ClaimRow:
    verdicts = Counter(row.verdict.split()[0] for row in report.comparisons) if report else Counter()
    return ClaimRow(
        file=counts.name,
        question=counts.question,
        source=counts.source,
        claims=verdicts.total(),
        shown=verdicts["better"],
        contrary=verdicts["worse"],
        equivalent=verdicts["equivalent"],
        undecided=verdicts["undecided"],
        left_out=counts.left_out,
    )


def _claims_table(rows: Sequence[ClaimRow]) -> Table:
    table = Table("file", "claims", "shown", "contrary", "equivalent", "undecided", box=None, padding=(0, 2, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        numbers = (row.claims, row.shown, row.contrary, row.equivalent, row.undecided)
        table.add_row(Text(row.file), *map(str, numbers))
    return table


def _left_out(rows: Sequence[ClaimRow]) -> list[Text]:
    return [Text(f"Left out of {row.file}: {row.left_out}.", style="dim") for row in rows if row.left_out]
