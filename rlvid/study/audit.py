"""What a run's answers are made of: leniency, truncation, collapse, position bias, coherence, what it looks at.

Everything is read from the run's `eval/` and, for groups, `samples/`; nothing is answered anew. Rewards named in
`eval.rewards` and views named in `eval.views` are there to be audited. What a reward's gate hides is not hidden here:
coherence is read from the evidence `agreement/NAME`, which rewards for consistency lay before the gate. Torch is not
imported: an audit answers at once.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table

from rlvid.answer import LETTERS, extract_thought
from rlvid.errors import UserError
from rlvid.study.pass_at_k import mean, votes
from rlvid.study.stats import stuart_maxwell_test, wilson_interval
from rlvid.utils.files import read_jsonl

Rows = Sequence[Mapping[str, Any]]
Levels = Mapping[str, Rows]
AGREEMENT = "agreement/"  # and a reward's name
COHERENT = 0.5  # from this agreement on, a reply is coherent
TOLD = {  # what the counts of grounding_narrations come to: of which, how many
    "told, not narrated": ("told", "not_narrated"),
    "narrated, not told": ("narrated", "not_told"),
}


def audit(run: Path) -> Group:
    """The tables of a run's folder; UserError if it has answered nothing."""
    levels = {path.stem: rows for path in sorted((run / "eval").glob("*.jsonl")) if (rows := read_jsonl(path))}
    if not levels:
        raise UserError(f"{run} holds no finished evaluation (eval/LEVEL.jsonl): give a run's folder")
    views = {
        folder.name: {path.stem: read_jsonl(path) for path in sorted(folder.glob("*.jsonl"))}
        for folder in sorted((run / "eval" / "views").glob("*"))
    }
    further = [*(coherence(levels, name) for name in judges(levels)), *filter(None, [votes(run)])]
    paid = sorted(judges(levels).keys() & trained_on(run / "config.toml"))
    warning = (
        [f"\nThis run was trained on {' and '.join(paid)}: believe another reward about its coherence."] if paid else []
    )
    tables = (part for table in further for part in ("", table))
    return Group(measures(levels, views), "", positions(levels), *tables, *warning)


def measures(levels: Levels, views: Mapping[str, Levels]) -> Table:
    """One line per measure, one column per level; shares with Wilson's 95 % interval."""
    table = Table("measure", *(f"{level} n={len(rows)}" for level, rows in levels.items()), box=None, pad_edge=False)
    for name, holds in SHARES.items():
        table.add_row(name, *(_share([holds(row) for row in rows]) for rows in levels.values()))
    for name, answered in views.items():
        pairs = [list(zip(levels[level], answered.get(level, ()), strict=False)) for level in levels]
        table.add_row(f"right, {name}", *(_share([shown["correct"] for _, shown in rows]) for rows in pairs))
        kept = [_share([true["answer"] == shown["answer"] for true, shown in rows]) for rows in pairs]
        table.add_row(f"same answer, {name}", *kept)
    table.add_row("commonest thought", *(_share(_commonest(rows)) for rows in levels.values()))
    for name, right in (("tokens if right", True), ("tokens if wrong", False)):
        chosen = [[row["length"] for row in rows if row["correct"] is right] for rows in levels.values()]
        table.add_row(name, *(f"{fmean(lengths):.0f}" if lengths else "–" for lengths in chosen))
    for name in judges(levels):
        judged = [agreements(rows, name) for rows in levels.values()]
        table.add_row(f"consistent, by {name}", *(_share([a >= COHERENT for _, a in pairs]) for pairs in judged))
    for name, (all_of_them, some) in TOLD.items() if any(map(narrated, levels.values())) else ():
        shares = [[c[some] / c[all_of_them] for c in narrated(rows) if c[all_of_them]] for rows in levels.values()]
        table.add_row(name, *(mean(np.array(values)) if values else "–" for values in shares))
    for name in dict.fromkeys(key for rows in levels.values() for row in rows for key in row if "rewards/" in key):
        found = [[row[name] for row in rows if row.get(name) is not None] for rows in levels.values()]
        table.add_row(name.removeprefix("rewards/"), *(f"{fmean(values):.2f}" if values else "–" for values in found))
    return table


def positions(levels: Levels) -> Table:
    """How often each letter is given, and is right; p that the two are spread alike, by Stuart's test."""
    letters = sorted({row["gold"] for rows in levels.values() for row in rows if row["gold"]})
    table = Table("position bias", *letters, "p", box=None, pad_edge=False)
    for level, rows in levels.items():
        given, gold = (Counter(row[key] for row in rows if row["answer"] in letters) for key in ("answer", "gold"))
        total = max(given.total(), 1)
        pairs = Counter((row["answer"], row["gold"]) for row in rows if row["answer"] in letters)
        p = stuart_maxwell_test(np.array([[pairs[a, b] for b in letters] for a in letters], dtype=float))
        shares = [f"{given[letter] / total:.0%} for {gold[letter] / total:.0%}" for letter in letters]
        table.add_row(f"{level}: given for right", *shares, f"{p:.3f}" if pairs else "–")
    return table


def judges(levels: Levels) -> dict[str, None]:
    """The rewards that laid down how coherent replies are, in order."""
    keys = (key for rows in levels.values() for row in rows for key in row.get("evidence", ()))
    return dict.fromkeys(key.removeprefix(AGREEMENT) for key in keys if key.startswith(AGREEMENT))


def agreements(rows: Rows, reward: str) -> list[tuple[Mapping[str, Any], float]]:
    """The rows that a reward could judge, and how coherent it found each of them."""
    found = [(row, row.get("evidence", {}).get(AGREEMENT + reward, [None])[0]) for row in rows]
    return [(row, agreement) for row, agreement in found if agreement is not None]


def narrated(rows: Rows) -> list[Mapping[str, int]]:
    """The counts of what is told and what was narrated, where they were taken."""
    found = [row.get("evidence", {}).get("grounding_narrations", [None])[0] for row in rows]
    return [counts for counts in found if counts is not None]


def trained_on(path: Path) -> set[str]:
    """The rewards that a run learnt from, by its config; none if it has none, or took no step."""
    table = tomllib.loads(path.read_text()) if path.is_file() else {}
    learnt = table and (table["train"]["max_steps"] or table["evidence"].get("reference"))
    return {name for name, about in table["rewards"].items() if about["weight"]} if learnt else set()


def coherence(levels: Levels, reward: str) -> Table:
    """Right and wrong answers by whether the thought leads to them, as a reward for consistency sees it."""
    table = Table(reward, *levels, box=None, pad_edge=False)
    judged = {level: agreements(rows, reward) for level, rows in levels.items()}
    for words, coherent, correct in (
        ("coherent and right", True, True),
        ("coherent and wrong", True, False),
        ("incoherent and right", False, True),
        ("incoherent and wrong", False, False),
    ):
        table.add_row(
            words,
            *(
                _share([(found >= COHERENT) is coherent and row["correct"] is correct for row, found in pairs])
                for pairs in judged.values()
            ),
        )
    table.add_row("not judged", *(str(len(levels[level]) - len(pairs)) for level, pairs in judged.items()))
    return table


def lenient(row: Mapping[str, Any]) -> bool:
    """Whether the first lone letter after the last `<answer>`, or else the last in the reply, is the right one."""
    _, tag, after = row["completion"].rpartition("<answer>")
    found = re.findall(rf"\b[{LETTERS[:8]}]\b", after if tag else row["completion"])
    return bool(found) and found[0 if tag else -1] == row["gold"]


def _commonest(rows: Rows) -> list[bool]:
    """Which replies think word by word what most of them think: all of them, where reasoning has collapsed."""
    thoughts = [extract_thought(row["completion"]) for row in rows]
    [(most, _)] = Counter(thoughts).most_common(1)
    return [said == most for said in thoughts]


def _share(flags: Sequence[bool]) -> str:
    if not flags:
        return "–"
    found = wilson_interval(sum(flags), len(flags))
    return f"{found.value:.1%}  {100 * max(found.low, 0):.0f}–{100 * found.high:.0f}"


SHARES: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "right": lambda row: row["correct"],
    "right, lenient parser": lenient,
    "no answer": lambda row: row["answer"] is None,
    "truncated": lambda row: not row["finished"],
    "no thought": lambda row: not extract_thought(row["completion"]),
}
