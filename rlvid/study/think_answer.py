"""Video-R2's metrics of reasoning, TAC and VAS, and what they miss (arXiv:2511.23478; mbzuai-oryx/Video-R2 c9e6743).

TAC, think-answer consistency, is the share of replies in which the answer and the letter that the thought arrives at
are both right or both wrong. So two different wrong letters count as consistent; "same letter" does not count them. The
released code has a language model read the letter, as the reward `consistency_judge` does. Evidence `reanswer`, the
policy's own letter given its thought, is a stand-in without one. A thought without a letter is wrong, as there; a call
that failed is left out, where the released code counts it as wrong.

VAS, the video attention score, is the mean grade of the reward `video_attention_score`, from 0 to 10. It is of claims:
"graded 7 or more, not narrated" is the share of such thoughts half of whose stated facts, or more, were not narrated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rich.table import Table

from rlvid.answer import extract_thought

Rows = Sequence[Mapping[str, Any]]  # lines of eval/LEVEL.jsonl
SOURCES = {
    "consistency_judge": "letter by a language model, as published",
    "reanswer": "letter by the policy from its thought alone: a stand-in",
}
HIGH_GRADE = 0.7


@dataclass(frozen=True)
class ThinkAnswerRow:
    """One measure of a level; `share` is from 0 to 1, for VAS from 0 to 10."""

    level: str
    measure: str
    share: float
    judged: int
    how: str


def think_answer_rows(levels: Mapping[str, Rows]) -> list[ThinkAnswerRow]:
    """Return TAC and what it misses for each source of letters, and VAS, for the levels that have the evidence."""
    table: list[ThinkAnswerRow] = []
    for level, rows in levels.items():
        for source, how in SOURCES.items():
            letters = [(row, thought_letter(row, source)) for row in rows if row.get("gold") and row.get("options")]
            table += consistency_rows(level, source, how, [(row, one) for row, one in letters if one is not None])
        table += attention_rows(level, rows)
    return table


def thought_letter(row: Mapping[str, Any], source: str) -> str | None:
    """Return the letter that a thought arrives at, "" for none, and None if it was not judged."""
    evidence = row.get("evidence", {})
    if source not in evidence:
        return None
    [value] = evidence[source]
    if not extract_thought(row["completion"]):
        return ""
    if source == "reanswer":
        return value or None
    match = re.fullmatch(r"\W*([A-Z]|NONE)\W*", ((value or {}).get("replied") or "").strip(), re.IGNORECASE)
    return None if match is None else "" if match[1].upper() == "NONE" else match[1].upper()


def consistency_rows(level: str, source: str, how: str, letters: Sequence[tuple[Any, str]]) -> list[ThinkAnswerRow]:
    """Return the measures of one source, for pairs of a row and its thought's letter."""
    if not letters:
        return []
    thought = [letter == row["gold"] for row, letter in letters]
    answer = [bool(row["correct"]) for row, _ in letters]
    same = [bool(letter) and letter == row["answer"] for row, letter in letters]
    both = [t == a for t, a in zip(thought, answer, strict=True)]
    apart = [b and not t and not s for b, t, s in zip(both, thought, same, strict=True)]
    measures = (
        ("TAC", both, how),
        ("same letter", same, "the thought's letter is the answer's"),
        ("TAC, letters differ", apart, "both wrong, and not with the same letter: TAC calls it consistent"),
        ("thought right", thought, "the thought's letter is the right one"),
    )
    return [ThinkAnswerRow(level, f"{name}, by {source}", fmean(v), len(v), text) for name, v, text in measures]


def attention_rows(level: str, rows: Rows) -> list[ThinkAnswerRow]:
    """Return VAS, and how often a high grade is of facts that were not narrated, if these were counted."""
    graded = [(row, grade) for row in rows if (grade := row.get("rewards/video_attention_score")) is not None]
    if not graded:
        return []
    result = [ThinkAnswerRow(level, "VAS", 10 * fmean(g for _, g in graded), len(graded), "grade of claims, 0 to 10")]
    high = [(row.get("evidence", {}).get("grounding_narrations") or [None])[0] for row, g in graded if g >= HIGH_GRADE]
    counted = [counts["not_narrated"] / counts["told"] for counts in high if counts and counts["told"]]
    if counted:
        share = fmean(one >= 0.5 for one in counted)
        text = "half of the stated facts or more were not narrated: VAS does not see it"
        result.append(ThinkAnswerRow(level, "graded 7 or more, not narrated", share, len(counted), text))
    return result


def think_answer_table(measured: Sequence[ThinkAnswerRow], levels: Mapping[str, Rows]) -> Table:
    """Return a table with a row per measure and a column per level, with the number of replies that were judged."""
    table = Table("thought and answer", *levels, "how", box=None, pad_edge=False)
    for name, how in {row.measure: row.how for row in measured}.items():
        cells = {
            row.level: (f"{row.share:.1f}" if name == "VAS" else f"{row.share:.1%}") + f" n={row.judged}"
            for row in measured
            if row.measure == name
        }
        table.add_row(name, *(cells.get(level, "–") for level in levels), how)
    return table
