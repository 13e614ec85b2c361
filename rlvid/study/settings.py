"""In which settings the arms of a grid differ, and which plug-in files have changed since their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rlvid.config.plugins import file_digest
from rlvid.study.runs import Run
from rlvid.utils.files import read_json, read_toml


@dataclass(frozen=True)
class SettingRow:
    """A setting in which an arm differs from the arm that it is compared with."""

    arm: str
    other: str
    key: str
    value: str | None  # of the arm; None if it has no such setting
    other_value: str | None
    named: bool  # by the definition of one of the two arms; if not, it is a confound


@dataclass(frozen=True)
class ChangedPlugin:
    """A plug-in file that is not what the runs had."""

    file: str
    of_runs: str  # digests
    now: str

    def __str__(self) -> str:
        return (
            f"{self.file} has changed: these runs had it as {self.of_runs} (a copy is in their plugins/), it is now "
            f"{self.now}. Run the grid again for its results."
        )


def setting_table(rows: Sequence[SettingRow], separator: str = "\n") -> Table:
    """Return the settings by pair of arms; those that no definition names are yellow. `separator` is between them."""
    table = Table("arm", "compared with", "differs in", box=None, padding=(0, 2, 0, 0), title_justify="left")
    for (arm, other), settings in groupby(rows, key=lambda row: (row.arm, row.other)):
        table.add_row(escape(arm), escape(other), separator.join(map(_in_words, settings)))
    return table


def settings_section(rows: Sequence[SettingRow], changed: Sequence[ChangedPlugin]) -> list[Table | Text]:
    """Return the table of settings with a warning about those that nobody named, and about changed plug-in files."""
    parts: list[Table | Text] = [setting_table(rows)] if rows else []
    if unnamed := [row for row in rows if not row.named]:
        words = f"{len(unnamed)} of these settings are named by no arm's definition: comparisons measure them too."
        parts.append(Text(words, style="yellow"))
    return parts + [Text(str(plugin), style="yellow") for plugin in changed]


def shown_value(config: Mapping[str, Any], key: str) -> str | None:
    """Return a value of a flat config as text, with quotes if it is empty; None if there is no such setting."""
    return str(config[key] if config[key] != "" else '""') if key in config else None


def _in_words(row: SettingRow) -> str:
    """Return a difference as markup: "algorithm.beta 0.04 (0.0), not named"."""
    if row.other_value is None:
        words = f"{row.key} {row.value}"
    elif row.value is None:
        words = f"no {row.key} ({row.other_value})"
    else:
        words = f"{row.key} {row.value} ({row.other_value})"
    return escape(words) if row.named else f"[bold yellow]{escape(words)}, not named[/]"


def changed_plugins(runs: Sequence[Run]) -> list[ChangedPlugin]:
    """Return the plug-in files that are not what the runs had, so that the same grid would now give other runs."""
    changed: dict[ChangedPlugin, None] = {}
    for run in runs:
        config = run.folder / "config.toml"
        if not config.is_file():
            continue
        started_in = Path((read_json(run.folder / "environment.json") or {}).get("folder", "."))
        for name, digest in read_toml(config).get("plugins", {}).items():
            file = started_in / name
            if file.is_file() and (now := file_digest(file)) != digest:
                changed[ChangedPlugin(name, digest, now)] = None
    return list(changed)
