"""Run folders and grid files as the program writes them, and reports on them as a terminal shows them."""

import json
from io import StringIO

from rich.console import Console

from rlvid.config import load
from rlvid.study.report import report
from rlvid.utils.files import write_jsonl, write_text


def run(folder, *overrides, right=(), state="done", curve=(), flat=False, **status):
    """A run folder as `rlvid train` leaves it; `right` is one string of 0 and 1 for each level."""
    config = load("nano", overrides)
    about = {"id": config.id, "state": state, "step": 60, "steps": 60, "phase": "", "message": ""}
    write_text(folder / "config.toml", config.to_toml())
    write_text(folder / "status.json", json.dumps(about | {"updated": "2026-01-02T03:04:05+00:00"} | status))
    write_jsonl(
        folder / "metrics.jsonl",
        (
            {"step": step, "reward": r, "rewards/accuracy/mean": r, "completions/mean_length": 40 - 10 * r}
            | {"frac_reward_zero_std": float(flat)}
            for step, r in enumerate(curve, start=1)
        ),
    )
    for level, marks in zip(("L1", "L2", "L3"), right, strict=False):
        rows = (
            {"id": f"{level}-{i}", "gold": "AABC"[i % 4], "correct": mark == "1", "length": 30 + i % 3}
            | {"rewards/format": float(i % 10 > 0)}
            for i, mark in enumerate(marks)
        )
        write_jsonl(folder / "eval" / f"{level}.jsonl", rows)
    return config.id


def grid(folder, cells, comparisons=(), question="Does it help?"):
    """A grid.json over runs: (arm, seed, run folder's name, id)."""
    rows = [{"arm": a, "levels": {}, "seed": s, "folder": f, "id": i} for a, s, f, i in cells]
    about = {"name": "g", "question": question, "control": cells[0][0], "comparisons": comparisons}
    write_text(folder / "grid.json", json.dumps(about | {"cells": rows}))


def printed(folder, width=100, plots=False):
    """What a terminal of that width shows."""
    console = Console(file=StringIO(), width=width, force_terminal=True, color_system=None)
    report(folder, plots=plots, console=console)
    return console.file.getvalue()


def line(text, start):
    return next(line for line in text.splitlines() if line.startswith(start))
