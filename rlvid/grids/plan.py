"""What a grid plans, as it is kept beside its runs: grid.json, and what an adaptive grid must not change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlvid.config import load
from rlvid.errors import UserError
from rlvid.grids.cell import Cell
from rlvid.grids.differences import find_differences, to_json
from rlvid.study.contrasts import SHARE
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


def write_grid_file(grid: Grid, out: Path, cells: Sequence[Cell], tuning: str, margin: float | None = None) -> None:
    """Write grid.json, from which the report reads the plan.

    Args:
        grid: the grid.
        out: its folder.
        cells: all cells.
        tuning: how the settings of the arms were chosen, see `Grid.describe_tuning`.
        margin: of equivalence; default: that of the grid.

    Raises:
        UserError: the folder holds another grid.
    """
    pairs = grid.pairs(dict.fromkeys(cell.arm for cell in cells))
    other = (read_json(out / "grid.json") or {}).get("name", grid.name)
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
    content = {
        "name": grid.name,
        "question": grid.question,
        "control": grid.control,
        "equivalence_margin": grid.margin if margin is None else margin,
        "endpoint": grid.endpoint,
        "tuning": tuning,
        "unseeded": grid.unseeded,
        "comparisons": pairs,
        "differences": to_json(find_differences(cells, pairs, grid.control)),
        "interactions": grid.interactions,
        "effect_order": grid.effect_order,
        "positive_controls": grid.positive_controls,
        "negative_controls": grid.negative_controls,
        "cells": rows,
    }
    write_text(out / "grid.json", json.dumps(content, indent=1))
