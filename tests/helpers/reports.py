"""Write run folders and grid files as the program writes them, and print reports on them as a terminal shows them."""

import json
from io import StringIO
from pathlib import Path

from rich.console import Console

from rlvid.config import load
from rlvid.study.report import report
from rlvid.utils.files import write_jsonl, write_text

ROOT = Path(__file__).parents[2]


def write_run(folder, *overrides, right=(), state="done", rewards=(), groups_differ=True, **status):
    """Write a run folder as `rlvid train nano` leaves it; returns the id of its config.

    Args:
        folder: the folder to write.
        overrides: of the preset nano.
        right: for L1, L2 and L3 a string with 1 for each question answered right, and 0 for each other one.
        state: of status.json.
        rewards: the mean reward of each step.
        groups_differ: whether rewards differ within groups.
        status: further entries of status.json.
    """
    config = load("nano", overrides)
    about = {"id": config.id, "state": state, "step": 60, "steps": 60, "phase": "", "message": ""}
    about["updated"] = "2026-01-02T03:04:05+00:00"
    write_text(folder / "config.toml", config.to_toml())
    write_text(folder / "status.json", json.dumps(about | status))
    metrics = [
        {"step": step, "reward": reward, "rewards/accuracy/mean": reward, "completions/mean_length": 40 - 10 * reward}
        | {"frac_reward_zero_std": float(not groups_differ)}
        for step, reward in enumerate(rewards, start=1)
    ]
    write_jsonl(folder / "metrics.jsonl", metrics)
    for level, marks in zip(("L1", "L2", "L3"), right, strict=False):
        answers = [
            {"id": f"{level}-{i}", "gold": "AABC"[i % 4], "correct": mark == "1", "length": 30 + i % 3}
            | {"rewards/format": float(i % 10 > 0)}
            for i, mark in enumerate(marks)
        ]
        write_jsonl(folder / "eval" / f"{level}.jsonl", answers)
    return config.id


def write_grid(folder, cells, comparisons=(), question="Does it help?", control=None, **entries):
    """Write a grid.json over runs.

    Args:
        folder: the grid's folder.
        cells: (arm, seed, run folder's name, id of its config), and optionally axis -> level.
        comparisons: pairs of arms.
        question: the research question.
        control: an arm; default: the first one.
        entries: further entries of grid.json.
    """
    rows = [
        {"arm": arm, "levels": levels[0] if levels else {}, "seed": seed, "folder": name, "id": id}
        for arm, seed, name, id, *levels in cells
    ]
    about = {"name": "g", "question": question, "control": control or cells[0][0], "comparisons": comparisons}
    write_text(folder / "grid.json", json.dumps(about | entries | {"cells": rows}))


def write_arms(folder, right_of_arm):
    """Write two runs of each arm, and return their cells.

    Args:
        folder: the grid's folder.
        right_of_arm: arm -> its right answers of 100 on each of two levels with seed 0; seed 1 has one more.
    """
    cells = []
    for number, (arm, right) in enumerate(right_of_arm.items()):
        for seed in (0, 1):
            marks = "1" * (right + seed) + "0" * (100 - right - seed)
            name = f"{number}-{seed}"
            settings = (f"seed={seed}", f"algorithm.epsilon={0.1 + number / 100}")
            cells.append((arm, seed, name, write_run(folder / name, *settings, right=(marks, marks))))
    return cells


def grid_cells(folder):
    """The cells of a grid.json, as `write_grid` takes them."""
    cells = json.loads((folder / "grid.json").read_text())["cells"]
    return [(cell["arm"], cell["seed"], cell["folder"], cell["id"]) for cell in cells]


def edit_answers(path, change):
    """Rewrite a file of answers: `change(index, row)` returns the new row."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    write_jsonl(path, [change(index, row) for index, row in enumerate(rows)])


def printed_report(folder, width=100, plots=False):
    """The report as a terminal of that width shows it."""
    console = Console(file=StringIO(), width=width, force_terminal=True, color_system=None)
    report(folder, plots=plots, console=console)
    return console.file.getvalue()


def line_starting(text, start):
    """The first line that starts with these characters."""
    return next(line for line in text.splitlines() if line.startswith(start))
