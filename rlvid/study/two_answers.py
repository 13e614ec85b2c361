"""Replies with two answers under a confidence gate: what the gate saves, and what it costs (rlvid/trainer/gate.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from rlvid.trainer.gate import gate_metrics

Rows = Sequence[Mapping[str, Any]]  # lines of eval/LEVEL.jsonl
MEASURES = {
    "first_accuracy": ("right at the first answer", "had no reply been thought through"),
    "second_accuracy": ("right at the last answer", "had no reply been cut"),
    "skipped": ("ended at the first answer", "share of questions without a thought"),
    "tokens_saved": ("tokens saved", "of all generated tokens; counted after generation, not timed"),
}


def two_answers_table(levels: Mapping[str, Rows]) -> Table | None:
    """Return accuracy under the gate and without it, and what it saves; None if no level was evaluated with a gate."""
    measured = {level: metrics for level, rows in levels.items() if (metrics := gate_metrics(rows))}
    if not measured:
        return None
    table = Table("two answers, gated", *(f"{level} n={len(levels[level])}" for level in measured), "what", box=None)
    right = [sum(bool(row["correct"]) for row in levels[level]) / len(levels[level]) for level in measured]
    table.add_row("right", *(f"{value:.1%}" for value in right), "as answered")
    for key, (name, what) in MEASURES.items():
        table.add_row(name, *(f"{metrics[key]:.1%}" for metrics in measured.values()), what)
    return table
