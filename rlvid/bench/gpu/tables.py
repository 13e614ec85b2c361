"""Print the results of `rlvid bench gpu`: a line per part, and a table of speed for each preset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

STYLES = {"passed": "green", "measured": "cyan", "failed": "bold red", "skipped": "yellow"}
IMPLEMENTATIONS = {"ours": "rlvid", "trl": "TRL", "rows": "rows", "reference": "the paper's scheme"}


def case_line(row: Mapping[str, Any]) -> Text:
    """Return the line of a case: status, name, seconds, and its message or its figures."""
    name = f"{row['name']} {row['preset']}"
    figures = ", ".join(f"{key} {_number(value)}" for key, value in row["values"].items())
    said = row["message"] if row["status"] in ("failed", "skipped") else figures
    head = Text(f"{row['status']:<8}", STYLES[row["status"]])
    return head.append(f"  {name:<14}  {row['seconds']:6.1f} s  {said}", "default")


def summary(result: Mapping[str, Any]) -> str:
    """Return one line: how many parts passed, were measured, failed and were skipped."""
    counts = Counter(row["status"] for row in result["cases"])
    return ", ".join(f"{counts[status]} {status}" for status in STYLES)


def speed_table(result: Mapping[str, Any]) -> Table | None:
    """Return seconds and memory of each implementation, relative to ours, one row per preset; None without any."""
    table = Table("preset", "implementation", "s a step", "x ours", "peak GB", "x ours", box=None, padding=(0, 2, 0, 0))
    for preset, parts in _measured(result).items():
        ours = parts.get("ours")
        for part, label in IMPLEMENTATIONS.items():
            if part not in parts:
                continue
            values = parts[part]
            ratios = [f"{values[key] / ours[key]:.2f}" if ours else "" for key in ("step_s", "peak_gb")]
            step, peak = f"{values['step_s']:.3g}", f"{values['peak_gb']:.3g}"
            table.add_row(preset, label, step, ratios[0], peak, ratios[1])
    return table if table.row_count else None


def efficiency_table(result: Mapping[str, Any]) -> Table | None:
    """Return decoding over its floor, learning over the rate of products, and memory over its estimate."""
    columns = ("preset", "decode, ms a token", "x floor", "learn, TFLOP/s", "of products", "MFU", "memory / --plan")
    table = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for preset, parts in _measured(result).items():
        decode, learn, memory = (parts.get(name, {}) for name in ("decode", "learn", "memory"))
        if not (decode or learn or memory):
            continue
        table.add_row(
            preset,
            _joined(decode, "_ms", but="floor"),
            _joined(decode, "_ratio"),
            _joined(learn, "_tflop_per_s"),
            _joined(learn, "_of_products"),
            _joined(learn, "_mfu"),
            _number(memory["ratio"]) if "ratio" in memory else "",
        )
    return table if table.row_count else None


def _measured(result: Mapping[str, Any]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return preset -> part -> values, of the parts that were measured."""
    measured: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in result["cases"]:
        if row["status"] == "measured":
            measured.setdefault(row["preset"], {})[row["name"]] = row["values"]
    return measured


def _joined(values: Mapping[str, Any], ending: str, but: str = "\0") -> str:
    """Return the values whose names have an ending, such as those of 8 and of 64 rows."""
    return ", ".join(_number(value) for key, value in values.items() if key.endswith(ending) and but not in key)


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
