"""What a grid plans, as it is kept beside its runs: grid.json, and what an adaptive grid must not change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from rlvid.config import load
from rlvid.errors import UserError
from rlvid.grids.cell import Cell
from rlvid.grids.differences import find_differences, to_json
from rlvid.study.contrasts import SHARE
from rlvid.study.design import SEPARATOR, DesignRow
from rlvid.study.plan_changes import PLAN, find_change, in_words, read_changes
from rlvid.study.study import STATE_FILE
from rlvid.study.tables import design_table
from rlvid.utils.files import read_json, write_text

if TYPE_CHECKING:
    from rlvid.grids.grid import Grid


def adaptive_plan(grid: Grid, cells: Sequence[Cell], max_seeds: int) -> dict[str, Any]:
    """Return what else, besides comparisons, margin and most seeds, an adaptive grid must not change once begun."""
    named = ("endpoint", "unseeded", "positive_controls", "negative_controls")
    configs = {cell.arm: cell.id for cell in reversed(cells)}  # of each arm the first
    return {key: getattr(grid, key) for key in named} | {"seeds": grid.seed_numbers(max_seeds), "configs": configs}


def adaptive_share(cells: Sequence[Cell]) -> float:
    """Return the share of the error rate for all levels together: all of it where cells are evaluated on one level."""
    evals = [load(cell.preset, cell.overrides).eval for cell in cells]
    levels = {level for each in evals for level in each.splits}
    return 1.0 if len(levels) == 1 and not any(each.transfer for each in evals) else SHARE


def fixed_plan(grid: Grid, cells: Sequence[Cell], margin: float | None = None) -> dict[str, Any]:
    """Return what is planned before the runs, as grid.json has it; see `rlvid.study.plan_changes.PLAN`.

    Args:
        grid: the grid.
        cells: all cells.
        margin: of equivalence; default: that of the grid.
    """
    pairs = grid.pairs(dict.fromkeys(cell.arm for cell in cells))
    named = {key: getattr(grid, key) for key in PLAN if key not in ("equivalence_margin", "comparisons")}
    return named | {"equivalence_margin": grid.margin if margin is None else margin, "comparisons": pairs}


def plan_table(grid: Grid, cells: Sequence[Cell], margin: float | None = None) -> Table:
    """Return a table of what a grid compares: endpoint, margin of equivalence, comparisons and controls.

    `margin` is that of the command line; default: that of the grid.
    """
    plan = fixed_plan(grid, cells, margin)
    words = {key: in_words(key, plan[key]) for key in PLAN}
    source = "equivalence_margin" if grid.equivalence_margin else "a third of effect_at_stake"
    source = source if grid.equivalence_margin or grid.effect_at_stake else "the default"
    source = source if margin is None else "--margin"
    rows = [
        DesignRow("endpoint", grid.endpoint),
        DesignRow(PLAN["equivalence_margin"], f"{words['equivalence_margin'][0]} ({source})"),
    ]
    if grid.success_threshold is not None:
        rows.append(DesignRow("a run succeeds above", f"{grid.success_threshold:g}"))
    for other in dict.fromkeys(other for _, other in plan["comparisons"]):
        arms = [arm for arm, against in plan["comparisons"] if against == other]
        rows.append(DesignRow(f"compared with {other}", SEPARATOR.join(arms)))
    for key in ("interactions", "effect_order"):
        rows += [DesignRow(PLAN[key], text) for text in words[key]]
    for key in ("positive_controls", "negative_controls"):
        rows.append(DesignRow(PLAN[key], SEPARATOR.join(words[key]) or "none"))
    return design_table(rows)


def planned_changes(grid: Grid, cells: Sequence[Cell], out: Path) -> list[str]:
    """Return what of the plan in a folder a grid with fixed seeds would change after runs had finished, in words."""
    name = (read_json(out / "grid.json") or {}).get("name", grid.name)
    if name != grid.name or (out / STATE_FILE).is_file():  # of another grid, or of an adaptive one: it is not replaced
        return []
    change = find_change(out, fixed_plan(grid, cells))
    return [f"{each.sentence}; the report will say so" for each in read_changes([change] if change else [])]


def write_grid_file(grid: Grid, out: Path, cells: Sequence[Cell], tuning: str, margin: float | None = None) -> None:
    """Write grid.json, from which the report reads the plan.

    A plan that it replaces after runs had finished is kept under "changed".

    Args:
        grid: the grid.
        out: its folder.
        cells: all cells.
        tuning: how the settings of the arms were chosen, see `Grid.describe_tuning`.
        margin: of equivalence, for an adaptive grid, which refuses another plan itself; default: that of the grid.

    Raises:
        UserError: the folder holds another grid.
    """
    plan, old = fixed_plan(grid, cells, margin), read_json(out / "grid.json") or {}
    other = old.get("name", grid.name)
    if other != grid.name:
        raise UserError(f"{out} holds the grid {other!r}, which {grid.name!r} must not replace: give another --out")
    rows = [
        {
            "arm": cell.arm,
            "levels": cell.axis_levels,
            "seed": cell.seed,
            "folder": cell.folder,
            "id": cell.id,
            "overrides": cell.overrides,
        }
        for cell in cells
    ]
    change = find_change(out, plan) if margin is None else None
    changed = [*old.get("changed", ()), *([change] if change else [])]
    about = {"name": grid.name, "question": grid.question, "tuning": tuning}
    differences = to_json(find_differences(cells, plan["comparisons"], grid.control))
    content = about | plan | {"differences": differences, "cells": rows} | ({"changed": changed} if changed else {})
    write_text(out / "grid.json", json.dumps(content, indent=1))
