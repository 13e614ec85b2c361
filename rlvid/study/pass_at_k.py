"""What groups of completions know beyond their mean: pass@k, the majority's vote, and how far to trust its share.

Read from a run's `samples/`, and judged by clean labels: its training prompts, other ones in every step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from rlvid.study.aggregate import pass_at_k
from rlvid.utils.files import read_jsonl

STEPS = 10  # as many at each end of a run are looked at
Z = 1.96  # half a 95 % interval, in standard errors


def votes(run: Path) -> Table | None:
    """The first steps beside the last ones; None where completions do not come in groups."""
    paths = sorted((run / "samples").glob("step-[0-9]*[0-9].jsonl"))
    ends = {"first": paths[:STEPS], "last": paths[-STEPS:]} if len(paths) > STEPS else {"all": paths}
    spans = {
        f"{name} steps, n={len(groups)}": dict(measures(groups))
        for name, some in ends.items()
        if (groups := [row for path in some for row in read_jsonl(path) if len(row["answers"]) > 1])
    }
    if not spans:
        return None
    table = Table("groups of completions", *spans, box=None, pad_edge=False)
    for name in dict.fromkeys(name for found in spans.values() for name in found):
        table.add_row(name, *(found.get(name, "–") for found in spans.values()))
    return table


def measures(groups: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Name and value, with its 95 % interval over groups."""
    size = min(len(group["answers"]) for group in groups)
    right = np.array([sum(answer == group["clean"] for answer in group["answers"][:size]) for group in groups])
    for k in dict.fromkeys([*(2**i for i in range(size.bit_length())), size]):
        yield f"pass@{k}", mean(pass_at_k(right, size, k))
    shares, wins = np.array([majority(group["answers"], group["clean"]) for group in groups]).T
    yield f"right by majority of {size}", mean(wins)
    yield "the majority's share", mean(shares)
    yield "calibration error of that share", f"{calibration_error(shares, wins):.1%}"


def majority(answers: Sequence[str | None], gold: str | None) -> tuple[float, float]:
    """The share of the answer that most give, and whether it is right; a tie is right as often as drawing lots is."""
    counts = Counter(answer for answer in answers if answer is not None)
    if not counts:
        return 0.0, 0.0
    most = max(counts.values())
    leaders = [answer for answer, count in counts.items() if count == most]
    return most / len(answers), (gold in leaders) / len(leaders)


def calibration_error(shares: np.ndarray, wins: np.ndarray) -> float:
    """(Q,) confidences and (Q,) outcomes -> mean |confidence - accuracy|, over the values that confidence takes.

    The expected calibration error (Guo et al. 2017, arXiv:1706.04599), whose bins are here the shares themselves.
    """
    values = [shares == share for share in np.unique(shares)]
    return float(sum(here.mean() * abs(shares[here].mean() - wins[here].mean()) for here in values))


def mean(values: np.ndarray) -> str:
    """(n,) shares -> their mean and its 95 % interval, in words."""
    half = Z * values.std() / np.sqrt(len(values))
    return f"{values.mean():.1%}  {100 * max(values.mean() - half, 0):.0f}–{100 * min(values.mean() + half, 1):.0f}"
