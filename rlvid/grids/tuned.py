"""A file of tuned settings, such as experiments/tuned/quickstart-nano.toml: what was chosen for each arm, and tried.

`rlvid tune` writes it (see `tune`), and a grid with `Grid(tuned=FILE)` applies it.

    experiment, preset, level, questions, seed, trials, date, command    how the settings were chosen
    [arms."NAME"]           settings = what was chosen; same_as = the arm whose choice it takes, if it has no own trials
    [[arms."NAME".tried]]   settings and their accuracy on the level with its 95 % interval, or `failed`
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from rlvid.errors import UserError
from rlvid.grids.cell import Settings
from rlvid.utils.files import write_text

HEADER = (
    "# Written by `rlvid tune`. To change the choice, change the candidates in the script and run the command again.\n"
)


@dataclass(frozen=True)
class Tuned:
    """The content of a file of tuned settings."""

    path: Path
    table: Mapping[str, Any]

    @property
    def arms(self) -> Mapping[str, Mapping[str, Any]]:
        """Arm -> its table, with `settings` and `tried` or `same_as`."""
        return self.table["arms"]

    def settings(self, arm: str) -> Settings:
        """What was chosen for an arm; {} for one that is not in the file."""
        return self.arms.get(arm, {}).get("settings", {})

    def describe(self, replaced: Sequence[str] = ()) -> str:
        """How the settings were chosen, in a sentence for the design of a grid.

        Args:
            replaced: keys that the command line sets instead.
        """
        keys = dict.fromkeys(key for arm in self.arms.values() for key in arm["settings"])
        table = self.table
        text = (
            f"{', '.join(keys)} chosen for each arm on {table['level']} ({table['questions']} questions, "
            f"{table['trials']} trials per arm, seed {table['seed']}, {table['date']}; {self.path.name})"
        )
        for name, arm in self.arms.items():
            if "same_as" in arm:
                text += f"; {name}: as {arm['same_as']}"
        if overridden := [key for key in keys if key in replaced]:
            text += f"; not applied, as --set names them: {', '.join(overridden)}"
        return text

    def write(self) -> None:
        """Write the table as TOML to its path, under a header that says not to edit it."""
        write_text(self.path, HEADER + tomli_w.dumps(dict(self.table)))


def read_tuned(path: Path) -> Tuned | None:
    """Read a file of tuned settings; None if there is none.

    Raises:
        UserError: the file is not one that `rlvid tune` has written.
    """
    if not path.is_file():
        return None
    try:
        tuned = Tuned(path, tomllib.loads(path.read_text()))
        tuned.describe()
    except (tomllib.TOMLDecodeError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is not a file that `rlvid tune` has written: {error}; run rlvid tune again") from error
    return tuned
