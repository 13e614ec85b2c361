"""In which settings an arm differs from the arm that it is compared with, and which of them its definition names.

A setting that differs and that nobody named, such as the `beta` that an algorithm inherits, is a confound: the
comparison then measures it too.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from rlvid.config import Config, Plugin, algorithm_name, flatten_config, load, parse_override
from rlvid.errors import UserError
from rlvid.grids.cell import Cell
from rlvid.registry import own_fields
from rlvid.study.settings import SettingRow, setting_table, shown_value
from rlvid.utils.console import wide_console

SEEDS = ("seed", "noise.seed")
TRAINING = ("algorithm.", "rewards.", "train.", "noise.", "cold_start.")  # without effect on an untrained model


def find_differences(cells: Sequence[Cell], pairs: Sequence[tuple[str, str]], control: str) -> list[SettingRow]:
    """Return the settings in which arms differ from those that they are compared with.

    Args:
        cells: of the grid.
        pairs: (arm, other arm) as planned; an arm in none of them is compared with the control.
        control: of the grid.
    """
    arms = {cell.arm: cell for cell in reversed(cells)}  # the first seed of each
    paired = {arm for pair in pairs for arm in pair}
    compared = [*pairs, *((arm, control) for arm in arms if arm not in paired and arm != control)]
    loaded = {name: load(cell.preset, cell.overrides) for name, cell in arms.items()}
    configs = {name: _flat(config) for name, config in loaded.items()}
    presets = {preset: _flat(load(preset)) for preset in {cell.preset for cell in arms.values()}}
    rows = []
    for arm, other in dict.fromkeys(compared):
        named = _named(arms[arm], loaded[arm].algorithm.name) | _named(arms[other], loaded[other].algorithm.name)
        named |= {*_differing(presets[arms[arm].preset], presets[arms[other].preset])}
        named |= _own_algorithm_fields(loaded[arm].algorithm, loaded[other].algorithm)
        for key in _differing(configs[arm], configs[other]):
            value, other_value = (shown_value(configs[name], key) for name in (arm, other))
            is_named = None in (value, other_value) or any(key == n or key.startswith(f"{n}.") for n in named)
            rows.append(SettingRow(arm, other, key, value, other_value, is_named))
    return rows


def report_differences(rows: Sequence[SettingRow], strict: bool) -> Iterator[Table | Text]:
    """Yield a table of the settings that differ, and a warning about those that no definition names.

    Raises:
        UserError: with `strict`, if there are such.
    """
    unnamed = [row for row in rows if not row.named]
    if unnamed:
        first = unnamed[0]
        advice = (
            f"{first.arm!r} differs from {first.other!r} in {first.key} = {first.value} (there {first.other_value}), "
            f"which its definition does not name; add {first.key!r} to the arm"
        )
        more = f"; and {len(unnamed) - 1} more such settings" if len(unnamed) > 1 else ""
        if strict:
            raise UserError(f"--strict: {advice}{more}")
        yield setting_table(rows)
        yield Text(f"warning: {advice}{more} (--strict refuses)", style="yellow")
    elif rows:
        yield setting_table(rows)


def print_parts(parts: Sequence[Table | Text], stderr: bool = False) -> None:
    """Print tables and lines, a blank line after each; wide where there is no terminal."""
    console = wide_console(stderr=stderr)
    for part in parts:
        console.print(part, "", soft_wrap=isinstance(part, Text))


def to_json(rows: Sequence[SettingRow]) -> list[dict[str, Any]]:
    """Return the rows as grid.json holds them."""
    return [asdict(row) for row in rows]


def _flat(config: Config) -> dict[str, Any]:
    """Return every setting of a resolved config by its dotted key."""
    return flatten_config(tomllib.loads(config.to_toml()))


def _named(cell: Cell, algorithm: str) -> set[str]:
    """Return the keys that the definition of an arm names; the name of an algorithm does not name its fields.

    Fields that an override gives to another algorithm than the arm's own, `algorithm`, have no effect.
    """
    names: set[str] = set()
    for override in cell.overrides:
        change = parse_override(override)
        if algorithm_name(change) not in ("", algorithm):
            continue
        table = flatten_config(change)
        names |= {"algorithm.name" if key == "algorithm" else key for key in table}
    return names


def _own_algorithm_fields(algorithm: Plugin, other: Plugin) -> set[str]:
    """Return the fields that the algorithm of an arm declares itself, if the other arm has another algorithm.

    To name an algorithm is to name these; it does not name what it inherits, or what a preset sets for another arm.
    """
    if algorithm.name == other.name:
        return set()
    return {f"algorithm.{field}" for field in own_fields("algorithms", algorithm.name, algorithm.copy)}


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return the keys whose values differ, seeds apart. Those of training count only if both arms are trained."""
    keys = [key for key in {**first, **second} if key not in SEEDS and first.get(key) != second.get(key)]
    if all(config["train.max_steps"] or config["cold_start.max_steps"] for config in (first, second)):
        return keys
    return [key for key in keys if not key.startswith(TRAINING) or key == "train.max_steps"]
