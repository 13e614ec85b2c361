"""Audit the answers of a run: leniency, parsers, truncation, collapse, position bias, coherence, altered views, pass@k.

Everything is read from the run's `eval/` and, for groups of completions, from its `samples/`; no model is run, and
torch is not imported. Rewards in `eval.rewards` and views in `eval.views` are evaluated by the run so that they can be
audited. Coherence is read from the evidence `agreement/NAME`, which consistency rewards record before they are gated by
accuracy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table

from rlvid.answer import extract_thought
from rlvid.errors import UserError
from rlvid.protocols.extraction import lenient
from rlvid.study.extractions import extraction_rows, extraction_table
from rlvid.study.pass_at_k import format_mean, group_table
from rlvid.study.stats import stuart_maxwell_test, wilson_interval
from rlvid.study.think_answer import think_answer_rows, think_answer_table
from rlvid.study.two_answers import two_answers_table
from rlvid.utils.files import read_jsonl, read_toml

Rows = Sequence[Mapping[str, Any]]  # lines of eval/LEVEL.jsonl
Levels = Mapping[str, Rows]

AGREEMENT_PREFIX = "agreement/"  # followed by the name of a consistency reward
COHERENT_FROM = 0.5  # a completion whose agreement is at least this is coherent
NO_VALUE = "–"
# Measure -> the counts that `grounding_narrations` records: the total, and how many of these facts are meant.
FACT_COUNTS = {
    "facts stated, not narrated": ("told", "not_narrated"),
    "facts narrated, not stated": ("narrated", "not_told"),
}


def audit(run: Path) -> Group:
    """Return the tables of a run folder. Raises UserError if it has no finished evaluation."""
    levels = {path.stem: rows for path in sorted((run / "eval").glob("*.jsonl")) if (rows := read_jsonl(path))}
    if not levels:
        raise UserError(f"{run} has no finished evaluation (eval/LEVEL.jsonl): give a run folder")
    views = {
        folder.name: {path.stem: read_jsonl(path) for path in sorted(folder.glob("*.jsonl"))}
        for folder in sorted((run / "eval" / "views").glob("*"))
    }
    rewards = consistency_rewards(levels)
    tables = [measure_table(levels, views), position_table(levels)]
    if read := extraction_rows(levels):
        tables.append(extraction_table(read))
    tables += [coherence_table(levels, reward) for reward in rewards]
    if measured := think_answer_rows(levels):
        tables.append(think_answer_table(measured, levels))
    if gate := two_answers_table(levels):
        tables.append(gate)
    if groups := group_table(run):
        tables.append(groups)
    parts: list[Table | str] = [tables[0]]
    for table in tables[1:]:
        parts += ["", table]
    trained_on = sorted(set(rewards) & training_rewards(run / "config.toml"))
    if trained_on:
        names = " and ".join(trained_on)
        parts.append(f"\nThis run was trained on {names}: judge its coherence by a reward that it was not trained on.")
    return Group(*parts)


def measure_table(levels: Levels, views: Mapping[str, Levels]) -> Table:
    """Return a table with a row per measure and a column per level; shares have a Wilson 95 % interval."""
    headings = (f"{level} n={len(rows)}" for level, rows in levels.items())
    table = Table("measure", *headings, box=None, pad_edge=False)
    for name, holds in SHARES.items():
        table.add_row(name, *(_share(holds(row) for row in rows) for rows in levels.values()))
    for name, answers in views.items():
        _add_view_rows(table, levels, name, answers)
    table.add_row("most common thought", *(_share(_has_most_common_thought(rows)) for rows in levels.values()))
    for name, correct in (("tokens if right", True), ("tokens if wrong", False)):
        lengths = [[row["length"] for row in rows if row["correct"] is correct] for rows in levels.values()]
        table.add_row(name, *(_mean(values, "{:.0f}") for values in lengths))
    for reward in consistency_rewards(levels):
        judged = [judged_rows(rows, reward) for rows in levels.values()]
        coherent = [_share(agreement >= COHERENT_FROM for _, agreement in rows) for rows in judged]
        table.add_row(f"coherent, by {reward}", *coherent)
    _add_fact_rows(table, levels)
    for key in dict.fromkeys(key for rows in levels.values() for row in rows for key in row if "rewards/" in key):
        values = [[row[key] for row in rows if row.get(key) is not None] for rows in levels.values()]
        table.add_row(f"mean of {key.removeprefix('rewards/')}", *(_mean(column, "{:.2f}") for column in values))
    return table


def _add_view_rows(table: Table, levels: Levels, view: str, answers: Levels) -> None:
    """Add how often a view was answered right, and how often as the unchanged question was."""
    pairs = [list(zip(rows, answers.get(level, ()), strict=False)) for level, rows in levels.items()]
    table.add_row(f"right, {view}", *(_share(altered["correct"] for _, altered in rows) for rows in pairs))
    same = [_share(row["answer"] == altered["answer"] for row, altered in rows) for rows in pairs]
    table.add_row(f"same answer, {view}", *same)


def _add_fact_rows(table: Table, levels: Levels) -> None:
    """Add the mean share of facts that only the thought or only the narrations contain, if they were counted."""
    counts_by_level = [fact_counts(rows) for rows in levels.values()]
    if not any(counts_by_level):
        return
    for name, (total, part) in FACT_COUNTS.items():
        shares = [[counts[part] / counts[total] for counts in rows if counts[total]] for rows in counts_by_level]
        table.add_row(name, *(format_mean(np.array(values)) if values else NO_VALUE for values in shares))


def position_table(levels: Levels) -> Table:
    """Return how often each letter is the answer and how often it is right; p is of the Stuart-Maxwell test.

    The test's hypothesis is that answers and right letters have the same distribution. It needs letters that are right
    somewhere; the last column counts the answers that name another one or none, which no share contains.
    Questions without options do not count.
    """
    levels = {level: [row for row in rows if row.get("options", True)] for level, rows in levels.items()}
    letters = sorted({row["gold"] for rows in levels.values() for row in rows if row["gold"]})
    table = Table("position bias", *letters, "p", "left out", box=None, pad_edge=False)
    for level, rows in levels.items():
        answered = [row for row in rows if row["answer"] in letters]
        given, right = (Counter(row[key] for row in answered) for key in ("answer", "gold"))
        pairs = Counter((row["answer"], row["gold"]) for row in answered)
        p = stuart_maxwell_test(np.array([[pairs[a, b] for b in letters] for a in letters], dtype=float))
        total = max(len(answered), 1)
        shares = [f"{given[letter] / total:.0%} / {right[letter] / total:.0%}" for letter in letters]
        left_out = f"{len(rows) - len(answered)} of {len(rows)}"
        table.add_row(f"{level}: given / right", *shares, f"{p:.3f}" if pairs else NO_VALUE, left_out)
    return table


def coherence_table(levels: Levels, reward: str) -> Table:
    """Return the shares of answers by coherence and correctness, and the number that the reward could not judge."""
    table = Table(reward, *levels, box=None, pad_edge=False)
    judged = {level: judged_rows(rows, reward) for level, rows in levels.items()}
    for name, coherent, correct in (
        ("coherent and right", True, True),
        ("coherent and wrong", True, False),
        ("incoherent and right", False, True),
        ("incoherent and wrong", False, False),
    ):
        shares = [
            _share((agreement >= COHERENT_FROM) is coherent and row["correct"] is correct for row, agreement in rows)
            for rows in judged.values()
        ]
        table.add_row(name, *shares)
    table.add_row("not judged", *(str(len(levels[level]) - len(rows)) for level, rows in judged.items()))
    return table


def consistency_rewards(levels: Levels) -> list[str]:
    """Return the names of the rewards that recorded an agreement, in order."""
    keys = (key for rows in levels.values() for row in rows for key in row.get("evidence", ()))
    names = (key.removeprefix(AGREEMENT_PREFIX) for key in keys if key.startswith(AGREEMENT_PREFIX))
    return list(dict.fromkeys(names))


def judged_rows(rows: Rows, reward: str) -> list[tuple[Mapping[str, Any], float]]:
    """Return the rows that a consistency reward could judge, each with its agreement in [0, 1]."""
    pairs = [(row, row.get("evidence", {}).get(AGREEMENT_PREFIX + reward, [None])[0]) for row in rows]
    return [(row, agreement) for row, agreement in pairs if agreement is not None]


def fact_counts(rows: Rows) -> list[Mapping[str, int]]:
    """Return the counts that `grounding_narrations` recorded, of the rows that have them."""
    counts = [row.get("evidence", {}).get("grounding_narrations", [None])[0] for row in rows]
    return [each for each in counts if each is not None]


def training_rewards(config: Path) -> set[str]:
    """Return the rewards that a run was trained on, by its config.toml; none without a config or a training step.

    `rlvid eval` of a trained run takes no step either, but then its config names the run's reference model.
    """
    if not config.is_file():
        return set()
    sections = read_toml(config)
    if not sections["train"]["max_steps"] and not sections["evidence"].get("reference"):
        return set()
    return {name for name, entry in sections["rewards"].items() if entry["weight"]}


def is_right_leniently(row: Mapping[str, Any]) -> bool:
    """Return whether a lenient parser finds the right answer; see `rlvid.protocols.extraction.lenient`."""
    letter = lenient(row["completion"], row.get("options", ()))
    return letter is not None and letter == row["gold"]


def _has_most_common_thought(rows: Rows) -> list[bool]:
    """Return whether each thought is the most frequent one, word by word. A share near 1 is collapsed reasoning."""
    thoughts = [extract_thought(row["completion"]) for row in rows]
    [(most_common, _)] = Counter(thoughts).most_common(1)
    return [thought == most_common for thought in thoughts]


def _share(flags: Iterable[bool]) -> str:
    """Return the share of true flags and its Wilson 95 % interval in percent, such as "40.0%  12–77"."""
    flags = list(flags)
    if not flags:
        return NO_VALUE
    interval = wilson_interval(sum(flags), len(flags))
    return f"{interval.value:.1%}  {100 * max(interval.low, 0):.0f}–{100 * interval.high:.0f}"


def _mean(values: Sequence[float], template: str) -> str:
    return template.format(fmean(values)) if values else NO_VALUE


SHARES: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "right": lambda row: row["correct"],
    "right, lenient parser": is_right_leniently,
    "no answer": lambda row: row["answer"] is None,
    "truncated": lambda row: not row["finished"],
    "no thought": lambda row: not extract_thought(row["completion"]),
}
