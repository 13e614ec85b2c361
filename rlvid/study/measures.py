"""What evaluations measured besides accuracy: each reward's mean by arm and level, and against the control.

Of rewards for consistency it is the agreement before their gate, which they lay on the evidence: behind it, an arm that
is right more often would look more coherent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from rlvid.study.runs import Study
from rlvid.study.stats import CONFIDENCE, Interval, count, difference, means, percentiles

SHOWN_ELSEWHERE = ("rewards/accuracy", "rewards/format")


def measured(study: Study) -> list[str]:
    """The reward columns that the evaluations of at least two arms have."""
    names: dict[str, set[str]] = {}
    for arm, runs in study.arms.items():
        for run in runs:
            for rows in run.answers.values():
                for key in next(iter(rows.values()), {}):
                    names.setdefault(key, set()).add(arm)
    found = [key for key, arms in names.items() if key.startswith("rewards/") and len(arms) > 1]
    return [key for key in found if key not in SHOWN_ELSEWHERE]


def table(study: Study, key: str) -> Table:
    """One measure: arms by levels, and the difference from the control on all levels together, with 95 % intervals.

    Of the questions to which it applies in all of an arm's runs, or for a difference in all of both arms' runs.
    """
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False, header_style="bold")
    shown.add_column(key.removeprefix("rewards/"), overflow="fold")
    for name in (*study.levels, f"all, against {study.control}"):
        shown.add_column(name, no_wrap=name in study.levels)
    for arm, runs in study.arms.items():
        if not runs:
            continue
        cells = [_mean(study, arm, [level], key) for level in study.levels]
        gap = _against(study, arm, key) if arm != study.control else None
        shown.add_row(Text(arm), *cells, _written(gap, "+") if gap else "")
    return shown


def _scores(study: Study, arm: str, levels: Sequence[str], key: str) -> np.ndarray | None:
    """(S, Q) the arm's values on some levels in turn; not a number where the measure does not apply."""
    runs = [run for run in study.arms[arm] if all(run in study.answered(arm, level) for level in levels)]
    rows = [[_value(row, key) for level in levels for row in run.answers[level].values()] for run in runs]
    return np.array(rows, dtype=float) if rows and any(v is not None for row in rows for v in row) else None


def _value(row: Mapping[str, Any], key: str) -> float | None:
    agreement = row.get("evidence", {}).get(key.replace("rewards/", "agreement/", 1))
    return agreement[0] if agreement else row.get(key)


def _mean(study: Study, arm: str, levels: Sequence[str], key: str) -> str:
    scores = _scores(study, arm, levels, key)
    if scores is None:
        return "–"
    applies = ~np.isnan(scores).any(0)
    scores, videos = scores[:, applies], _renumbered(study.videos(*levels)[applies])
    return _written(percentiles(scores.mean(), means(scores, videos), count(scores, videos), CONFIDENCE))


def _against(study: Study, arm: str, key: str) -> Interval | None:
    a, b = (_scores(study, name, list(study.levels), key) for name in (arm, study.control))
    if a is None or b is None:
        return None
    applies = ~(np.isnan(a).any(0) | np.isnan(b).any(0))
    seeds = [[run.seed for run in study.arms[name]] for name in (arm, study.control)]
    return difference(a[:, applies], b[:, applies], seeds[0] == seeds[1], _renumbered(study.videos()[applies]))


def _renumbered(videos: np.ndarray) -> np.ndarray:
    return np.unique(videos, return_inverse=True)[1]


def _written(i: Interval, sign: str = "") -> str:
    return f"{i.value:{sign}.2f}  {i.low:{sign}.2f} to {i.high:{sign}.2f}"
