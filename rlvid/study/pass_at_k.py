"""Pass@k, the majority vote and its calibration, from groups of completions.

They are read from a run's `samples/` and judged by the clean labels. The prompts are training prompts, different ones
in each step.
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

STEPS_AT_EACH_END = 10  # of a run are read, at most
Z_95 = 1.96  # half of a normal 95 % interval, in standard errors


def sample_ends(run: Path) -> dict[str, list[Path]]:
    """Return the files of the "first" and the "last" steps of a run, or of "all" steps if it has few.

    No step is in both: of fewer than 20 steps each end has half, and the middle one of an odd number is in neither.
    """
    paths = sorted((run / "samples").glob("step-[0-9]*[0-9].jsonl"))
    if len(paths) > STEPS_AT_EACH_END:
        size = min(STEPS_AT_EACH_END, len(paths) // 2)
        return {"first": paths[:size], "last": paths[-size:]}
    return {"all": paths}


def end_heading(name: str, steps: int) -> str:
    """Return the heading of one of `sample_ends`.

    >>> end_heading("first", 10), end_heading("all", 1)
    ('first 10 steps', 'all 1 step')
    """
    return f"{name} {steps} step{'s' if steps > 1 else ''}"


def group_table(run: Path) -> Table | None:
    """Return a table of group measures in the first and the last steps; None if a completion is alone in its group."""
    columns: dict[str, dict[str, str]] = {}  # heading -> measure -> value
    for name, end_paths in sample_ends(run).items():
        groups = [row for path in end_paths for row in read_jsonl(path) if len(row["answers"]) > 1]
        if groups:
            columns[f"{end_heading(name, len(end_paths))}, n={len(groups)}"] = dict(group_measures(groups))
    if not columns:
        return None
    table = Table("groups of completions", *columns, box=None, pad_edge=False)
    for measure in dict.fromkeys(measure for column in columns.values() for measure in column):
        table.add_row(measure, *(column.get(measure, "–") for column in columns.values()))
    return table


def group_measures(groups: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield name and value of each measure, with its 95 % interval over groups.

    If groups differ in size, only the first completions of each count, as many as the smallest group has.

    Args:
        groups: rows of `samples/`, with "answers", one per completion, and "clean", the clean label.
    """
    size = min(len(group["answers"]) for group in groups)
    right = np.array([sum(answer == group["clean"] for answer in group["answers"][:size]) for group in groups])
    powers_of_two = [2**i for i in range(size.bit_length())]
    for k in dict.fromkeys([*powers_of_two, size]):
        yield f"pass@{k}", format_mean(pass_at_k(right, size, k))
    votes = [vote_share_and_correctness(group["answers"][:size], group["clean"]) for group in groups]
    shares, is_right = np.array(votes).T
    yield f"majority vote of {size} is right", format_mean(is_right)
    yield "share of the majority", format_mean(shares)
    yield "calibration error of that share", f"{calibration_error(shares, is_right):.1%}"


def vote_share_and_correctness(answers: Sequence[str | None], gold: str | None) -> tuple[float, float]:
    """Return the share of the most frequent answer, and how likely it is right.

    A tie between k answers is broken at random: it is right with probability 1/k if the right answer is among them. A
    None does not vote, but counts in the share.

    >>> vote_share_and_correctness(["A", "A", "A", "B"], gold="A")
    (0.75, 1.0)
    >>> vote_share_and_correctness(["A", "A", "B", "B"], gold="A")
    (0.5, 0.5)
    """
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return 0.0, 0.0
    most = max(votes.values())
    leaders = [answer for answer, count in votes.items() if count == most]
    return most / len(answers), (gold in leaders) / len(leaders)


def calibration_error(confidences: np.ndarray, outcomes: np.ndarray) -> float:
    """(Q,) confidences and (Q,) outcomes -> mean |confidence - accuracy|.

    The expected calibration error (Guo et al. 2017, arXiv:1706.04599). Each distinct confidence is a bin of its own.
    """
    error = 0.0
    for confidence in np.unique(confidences):
        in_bin = confidences == confidence
        error += in_bin.mean() * abs(confidences[in_bin].mean() - outcomes[in_bin].mean())
    return float(error)


def half_width(values: Sequence[float] | np.ndarray) -> float | None:
    """Return half of the normal 95 % interval of the mean of (n,) values; None for one value, which shows no scatter.

    The standard error is the sample standard deviation, whose sum of squares is divided by n - 1, by the root of n.

    >>> round(half_width([0.0, 0.2]), 3)
    0.196
    """
    if len(values) < 2:
        return None
    return float(Z_95 * np.std(values, ddof=1) / np.sqrt(len(values)))


def format_mean(values: np.ndarray) -> str:
    """Return the mean of (n,) shares in percent and its 95 % interval by `half_width`, such as "62.5%  41–84"."""
    mean, half = values.mean(), half_width(values)
    if half is None:
        return f"{mean:.1%}"
    return f"{mean:.1%}  {100 * max(mean - half, 0):.0f}–{100 * min(mean + half, 1):.0f}"
