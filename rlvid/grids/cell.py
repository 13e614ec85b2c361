"""Cells of a grid: one run each. Make them from arms and seeds, select some of them, and list them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tomli_w
from rich.markup import escape
from rich.table import Table

from rlvid.config import flatten_config, load, parse_override
from rlvid.errors import UserError
from rlvid.registry import suggest
from rlvid.study.runs import Run
from rlvid.utils.files import read_json

Settings = Mapping[str, Any]  # config key -> value, such as {"noise.rate": 0.3}
MAX_SLUG = 200  # characters of an arm's name in that of a run folder: file systems allow 255 in all


@dataclass(frozen=True)
class Arm:
    """One condition of an experiment, such as an algorithm under a noise: the same settings under several seeds."""

    name: str
    axis_levels: Mapping[str, str]  # axis -> level; empty for an arm that is not a combination of levels
    settings: Settings


@dataclass(frozen=True)
class Cell:
    """One run of a grid: an arm under one seed."""

    arm: str
    axis_levels: Mapping[str, str]
    seed: int
    preset: str
    overrides: tuple[str, ...]  # of the preset, such as "train.max_steps=3"
    steps: int
    id: str  # of the config
    folder: str  # the name of the run folder; it contains the id, so different configs never share a folder


def make_cell(
    arm: Arm, seed: int, preset: str, extra: Sequence[str] = (), defaults: Settings = MappingProxyType({})
) -> Cell:
    """Build the cell of an arm and a seed.

    The seed of the noise is the seed of the run. An arm may set "preset": another one, such as "{preset}_sft".

    Args:
        arm: the arm.
        seed: the seed.
        preset: of the grid.
        extra: overrides for all cells; what the arm sets takes precedence.
        defaults: settings over those of the preset; `extra` and what the arm sets take precedence.

    Raises:
        UserError: the config is wrong.
    """
    settings = {**arm.settings, "seed": seed}
    if "noise.kind" in arm.settings:
        settings["noise.seed"] = seed
    cell_preset = settings.pop("preset", "{preset}").format(preset=preset)
    overrides = (*format_overrides(defaults), *extra, *format_overrides(settings))
    config = load(cell_preset, overrides)
    config_id, steps = config.id, config.train.max_steps
    slug = re.sub(r"[^a-z0-9.]+", "-", arm.name.lower())[:MAX_SLUG].strip("-") or "arm"
    folder = f"{slug}-seed{seed}-{config_id[:8]}"
    return Cell(arm.name, arm.axis_levels, seed, cell_preset, overrides, steps, config_id, folder)


def format_overrides(settings: Settings) -> list[str]:
    """Return settings as overrides, see `format_override`."""
    return [format_override(key, value) for key, value in settings.items()]


def format_override(key: str, value: Any) -> str:
    """Return an override with the value as TOML.

    >>> format_override("train.max_steps", 3), format_override("algorithm", "dpo")
    ('train.max_steps=3', 'algorithm="dpo"')
    """
    toml = tomli_w.dumps({"x": value}).partition("=")[2]
    lines = [line.strip() for line in toml.strip().splitlines()]  # a long list takes several lines
    return f"{key}={' '.join(lines)}"


def override_keys(overrides: Sequence[str]) -> list[str]:
    """Return the config keys that overrides set, one by one also where a table sets several.

    >>> override_keys(["eval={limit=2}", "seed=1"])
    ['eval.limit', 'seed']
    """
    return [key for override in overrides for key in flatten_config(parse_override(override))]


def select_cells(cells: Sequence[Cell], patterns: Sequence[str] | None) -> list[Cell]:
    """Return the cells whose arm matches a pattern such as "grpo, *", in the order of the patterns; without any, all.

    The name of an arm matches that arm, also where it has the brackets of a pattern.

    Raises:
        UserError: no arm matches a pattern.
    """
    if not patterns:
        return list(cells)
    selected: dict[tuple[str, int], Cell] = {}
    for pattern in patterns:
        named = pattern in {cell.arm for cell in cells}
        chosen = [cell for cell in cells if (cell.arm == pattern if named else fnmatchcase(cell.arm, pattern))]
        matching = {(cell.arm, cell.seed): cell for cell in chosen}
        if not matching:
            raise UserError(f"--only {pattern!r} matches no arm.{suggest(pattern, {cell.arm for cell in cells})}")
        selected |= matching
    return list(selected.values())


def cell_table(cells: Sequence[Cell], out: Path) -> Table:
    """Return a table with one row per arm: its seeds, its settings, and how many of its runs are done."""
    table = Table("arm", "seeds", "settings", "done", box=None, padding=(0, 2, 0, 0), title=escape(str(out)))
    for arm, group in groupby(cells, key=lambda cell: cell.arm):
        arm_cells = list(group)
        first, *others = arm_cells
        shared = [each for each in first.overrides if all(each in cell.overrides for cell in others)]
        settings = " ".join(each for each in shared if not each.startswith("seed="))
        seeds = " ".join(str(cell.seed) for cell in arm_cells)
        done = sum(Run(arm, cell.seed, out / cell.folder, cell.id).done for cell in arm_cells)
        table.add_row(escape(arm), seeds, escape(settings), f"{done} of {len(arm_cells)}")
    return table


def other_runs_note(cells: Sequence[Cell], out: Path) -> str:
    """Return a line if `rlvid report` shows other runs than these cells: those of the grid's last start; else ""."""
    started = {(row["arm"], row["seed"]): row["id"] for row in (read_json(out / "grid.json") or {}).get("cells", [])}
    other = [cell.arm for cell in cells if started.get((cell.arm, cell.seed), cell.id) != cell.id]
    if not other:
        return ""
    arms = ", ".join(dict.fromkeys(other))
    return f"`rlvid report {out}` still shows other runs of {arms}: start the grid to change that"
