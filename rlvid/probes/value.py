"""Value: what the reward pays, on what, and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlvid.probes.result import Block
from rlvid.probes.statistics import Array, flat
from rlvid.probes.subject import Scored
from rlvid.probes.verdicts import Checks, block

BINS = 12
EXTREMES = 3  # best and worst replies that are quoted
Numbers = Mapping[str, Any]


def measure_value(scored: Scored) -> Numbers:
    """Return the distribution overall, by level and by right and wrong; the best and worst replies; seconds a reply."""
    values, right = flat(scored.column), flat(scored.others["accuracy"])
    known = values[~np.isnan(values)]
    levels = np.array([group.prompt.level for group in scored.groups for _ in group])
    numbers: dict[str, Any] = {
        "replies": len(values),
        "applied": len(known) / max(len(values), 1),
        "distinct": len(np.unique(known.round(9))),
        "seconds_per_reply": scored.seconds / max(len(values), 1),
        "summary": _summary(known),
        "right": _summary(values[(right == 1) & ~np.isnan(values)]),
        "wrong": _summary(values[(right == 0) & ~np.isnan(values)]),
        "levels": {level: _summary(values[(levels == level) & ~np.isnan(values)]) for level in dict.fromkeys(levels)},
    }
    if len(known):
        edges = np.linspace(known.min(), known.max() if np.ptp(known) else known.min() + 1, BINS + 1)
        numbers["histogram"] = {
            "edges": edges.tolist(),
            "all": np.histogram(known, edges)[0].tolist(),
            "right": np.histogram(values[right == 1], edges)[0].tolist(),
            "wrong": np.histogram(values[right != 1], edges)[0].tolist(),
            "levels": {level: np.histogram(values[levels == level], edges)[0].tolist() for level in numbers["levels"]},
        }
    return numbers | {"best": _extremes(scored, best=True), "worst": _extremes(scored, best=False)}


def judge_value(numbers: Numbers, checks: Checks) -> Block:
    """Return the block. Without a value, or with one value only, a reward has nothing to say."""
    count, summary = numbers["replies"], numbers["summary"]
    applied = f"it applies to {numbers['applied']:.0%} of {count} replies"
    if not numbers["applied"]:
        applied = f"it applies to none of the {count} replies"
    findings = checks.at_least("value.min_applied", numbers["applied"], applied)
    if numbers["applied"]:
        only = f"every reply earns {summary['mean']:.3g}" if numbers["distinct"] == 1 else "too few different values"
        findings += checks.at_least("value.min_distinct", numbers["distinct"], f"{only}: nothing to learn from")
    slow = f"it takes {numbers['seconds_per_reply']:.2g} s a reply"
    findings += checks.at_most("value.max_seconds", numbers["seconds_per_reply"], slow)
    if not numbers["applied"]:
        return block("value", numbers, findings, "")
    low, high = _short(summary["min"]), _short(summary["max"])
    good = f"{low} to {high}, mean {summary['mean']:.2f}" + ("" if numbers["applied"] == 1 else f"; {applied}")
    return block("value", numbers, findings, good)


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _summary(values: Array) -> dict[str, float]:
    if not len(values):
        return {"n": 0}
    low, quarter, median, three_quarters, high = np.percentile(values, [0, 25, 50, 75, 100]).tolist()
    return {
        "n": len(values),
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": low,
        "q25": quarter,
        "median": median,
        "q75": three_quarters,
        "max": high,
    }


def _extremes(scored: Scored, best: bool) -> list[dict[str, Any]]:
    """Return the best or the worst replies, with different texts."""
    rows: list[dict[str, Any]] = [
        {"value": value, "right": accuracy == 1, "sample": group.prompt.id, "reply": completion.text}
        for group, row, accuracies in zip(scored.groups, scored.column, scored.others["accuracy"], strict=True)
        for completion, value, accuracy in zip(group, row, accuracies, strict=True)
        if value is not None
    ]
    ranked = sorted(rows, key=lambda row: -row["value"] if best else row["value"])
    seen: dict[str, dict[str, Any]] = {}
    for row in ranked:
        if len(seen) < EXTREMES:
            seen.setdefault(row["reply"], row)
    return list(seen.values())
