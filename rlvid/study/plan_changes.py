"""Changes of a grid's plan after some of its runs had finished: what grid.json keeps of them, and how they are told.

A plan that changes once results could be seen has no error rate of 5 %, so reports say what changed and when.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlvid.study.runs import Run
from rlvid.utils.files import read_json

# Keys of grid.json that the plan consists of -> their names in words.
PLAN = {
    "endpoint": "endpoint",
    "equivalence_margin": "margin of equivalence",
    "effect_at_stake": "effect at stake",
    "seeds": "seeds",
    "control": "control",
    "unseeded": "unseeded arms",
    "comparisons": "comparisons",
    "interactions": "interactions",
    "effect_order": "order of effects",
    "positive_controls": "positive controls",
    "negative_controls": "negative controls",
    "success_threshold": "threshold of success",
}
POINTS = ("equivalence_margin", "effect_at_stake")  # shares, which are told in points
WHOLE = (
    "endpoint",
    "control",
    "seeds",
    "success_threshold",
    *POINTS,
)  # told as a whole; of the other keys, what was added and removed
MOST_NAMED = 3  # of many comparisons that were added or removed


@dataclass(frozen=True)
class PlanChange:
    """A part of a grid's plan that was changed after at least one run had finished."""

    what: str
    before: str
    after: str
    date: str  # UTC, such as "2026-01-02"
    runs_done: int  # when it was changed
    runs_planned: int  # until then
    sentence: str  # all of this in one line


def find_change(out: Path, plan: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what an entry of "changed" in grid.json says if a plan replaces the one in a folder; or None.

    There is nothing to say if the plan stays as it was, or if none of its runs has finished.

    Args:
        out: the grid's folder.
        plan: the new values of the keys of `PLAN`.
    """
    old = read_json(out / "grid.json") or {}
    cells = {cell["folder"]: cell for cell in old.get("cells", ())}  # equal configs are one run
    done = sum(Run(cell["arm"], cell["seed"], out / name, cell["id"]).done for name, cell in cells.items())
    if not done:
        return None
    old.setdefault("seeds", sorted({cell["seed"] for cell in cells.values()}))  # before 2026-12-01 it was not written
    new = json.loads(json.dumps(plan))  # as it is saved: tuples become lists
    keys = [key for key in PLAN if key in old and _comparable(old[key]) != _comparable(new[key])]
    if not keys:
        return None
    before, after = ({key: values[key] for key in keys} for values in (old, new))
    date = datetime.now(UTC).date().isoformat()
    return {"date": date, "runs_done": done, "runs_planned": len(cells), "before": before, "after": after}


def read_changes(entries: Sequence[Mapping[str, Any]]) -> list[PlanChange]:
    """Return the changes in the entries of "changed" in grid.json."""
    return [_read_change(entry, key) for entry in entries for key in entry["before"]]


def in_words(key: str, value: Any) -> list[str]:
    """Return a part of a plan in words, one text for each comparison, seed and so on.

    >>> in_words("equivalence_margin", 0.03), in_words("comparisons", [("sft", "base")])
    (['3 points'], ['sft against base'])
    """
    if value is None:
        return []
    if key in POINTS:
        return [f"{100 * value:.4g} points"]
    if not isinstance(value, list | tuple):
        return [str(value)]
    forms = {"interactions": "{} to {}, against {} to {}", "effect_order": "{} against {}, with {} against {}"}
    form = forms.get(key, "{} against {}")
    return [form.format(*item) if isinstance(item, list | tuple) else str(item) for item in value]


def _read_change(entry: Mapping[str, Any], key: str) -> PlanChange:
    before, after = (in_words(key, entry[side][key]) for side in ("before", "after"))
    separator = " " if key == "seeds" else "; "
    old, new = (separator.join(words) or "none" for words in (before, after))
    date, done, planned = entry["date"], entry["runs_done"], entry["runs_planned"]
    when = f"on {date}, after {done} of {planned} runs had finished"
    if key in WHOLE:
        sentence = f"{PLAN[key]} changed from {old} to {new} {when}"
    else:
        parts = [("added", [each for each in after if each not in before])]
        parts += [("removed", [each for each in before if each not in after])]
        sentence = (
            f"{PLAN[key]} changed {when}: {', '.join(f'{verb} {_some(names)}' for verb, names in parts if names)}"
        )
    return PlanChange(PLAN[key], old, new, date, done, planned, sentence)


def _some(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return "; ".join([*names[:MOST_NAMED], *([f"{more} more"] if more > 0 else [])])


def _comparable(value: Any) -> Any:
    """Return a value of a plan without an order, which means nothing in lists of comparisons or seeds."""
    return sorted(value) if isinstance(value, list) else value
