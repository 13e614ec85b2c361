"""An experiment: a question, axes whose levels are config overrides, seeds, a control, comparisons; and its runs.

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rlvid.config import load
from rlvid.errors import UserError
from rlvid.files import write
from rlvid.resolve import suggest
from rlvid.study.launch import Command, launch
from rlvid.study.runs import Result

Settings = Mapping[str, Any]  # config key -> value, such as {"noise.rate": 0.3}


@dataclass(frozen=True)
class Cell:
    """One run to be: an arm under a seed."""

    arm: str
    levels: Mapping[str, str]  # axis -> level
    seed: int
    preset: str
    overrides: tuple[str, ...]
    steps: int
    id: str

    @property
    def folder(self) -> str:
        """Its run folder's name; the id keeps different configs apart."""
        return f"{re.sub(r'[^a-z0-9.]+', '-', self.arm.lower()).strip('-')}-seed{self.seed}-{self.id[:8]}"


@dataclass(frozen=True)
class Grid:
    """A question, and the runs and comparisons that answer it.

    Every combination of the axes' levels is an arm, named by its levels: "grpo clean". `arms` are further ones, outside
    the product. Every arm runs under every seed; one that sets its own "seed", such as an untrained base that answers
    greedily, comes out the same under all of them and runs once. Without `comparisons`, each arm is compared with the
    control. Raises UserError on a control or a comparison that is no arm.
    """

    name: str
    question: str
    control: str
    axes: Mapping[str, Mapping[str, Settings]] = field(default_factory=dict)
    arms: Mapping[str, Settings] = field(default_factory=dict)
    seeds: Sequence[int] = (0, 1)
    comparisons: Sequence[tuple[str, str]] = ()
    preset: str = "nano"

    def __post_init__(self) -> None:
        for arm in (self.control, *(arm for pair in self.comparisons for arm in pair)):
            if arm not in self.settings:
                raise UserError(f"grid {self.name!r} has no arm {arm!r}.{suggest(arm, self.settings)}")

    @property
    def points(self) -> dict[str, dict[str, str]]:
        """Arm -> axis -> level."""
        crossed = [dict(zip(self.axes, levels, strict=True)) for levels in product(*self.axes.values())] if self.axes else []
        return {arm: {} for arm in self.arms} | {" ".join(point.values()): point for point in crossed}

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Arm -> what it sets; where two axes set one key, the later one does."""
        return {
            arm: dict(self.arms.get(arm, {}))
            | {key: value for axis, level in point.items() for key, value in self.axes[axis][level].items()}
            for arm, point in self.points.items()
        }

    def cells(self, preset: str, overrides: Sequence[str] = ()) -> list[Cell]:
        """The runs, each once; `overrides` lie under what the arms set. UserError if a config is wrong."""
        cells: dict[str, Cell] = {}
        for (arm, settings), seed in product(self.settings.items(), self.seeds):
            assignments = [f"{key}={json.dumps(value)}" for key, value in ({"seed": seed} | settings).items()]
            config = load(preset, [*overrides, *assignments])
            where = (*overrides, *assignments)
            cells.setdefault(
                config.id, Cell(arm, self.points[arm], config.seed, preset, where, config.train.steps, config.id)
            )
        return list(cells.values())

    def write(self, folder: Path, cells: Sequence[Cell]) -> None:
        """Tell the report what belongs to this grid."""
        rows = [{k: getattr(c, k) for k in ("arm", "levels", "seed", "folder", "id")} for c in cells]
        plan = {"name": self.name, "question": self.question, "control": self.control}
        pairs = self.comparisons or [(arm, self.control) for arm in self.settings if arm != self.control]
        write(folder / "grid.json", json.dumps(plan | {"comparisons": pairs, "cells": rows}, indent=1))

    def main(self, argv: Sequence[str] | None = None, command: Command = ("-m", "rlvid", "train")) -> int:
        """The grid's command line; returns the exit code: 1 if a cell failed, 2 on a user's mistake."""
        args = self._arguments(argv)
        try:
            cells = self.cells(args.preset, args.overrides)
            preset = Path(args.preset).stem
            out = Path(args.out or f"runs/{self.name}" + (f"-{preset}" if preset != self.preset else ""))
            if args.dry_run:
                Console().print(plan(cells, out))
                return 0
            self.write(out, cells)
            return launch(cells, out, args.jobs, command)
        except UserError as error:
            print(f"rlvid: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("rlvid: interrupted; the same command goes on where it stopped", file=sys.stderr)
            return 130

    def _arguments(self, argv: Sequence[str] | None) -> argparse.Namespace:
        parser = argparse.ArgumentParser(prog=f"rlvid grid {self.name}.py", description=self.question)
        parser.add_argument("overrides", nargs="*", metavar="key=value", help="for all cells, under what their arms set")
        parser.add_argument("--preset", default=self.preset, help="what the cells start from (default: %(default)s)")
        parser.add_argument("--jobs", type=int, help="runs at a time (default: one for each GPU, or one)")
        parser.add_argument("--out", help=f"the grid's folder (default: runs/{self.name})")
        parser.add_argument("--dry-run", action="store_true", help="list the cells and run none")
        parser.add_argument("--launcher", choices=["local"], default="local", help="where the cells run")
        return parser.parse_args(argv)


def plan(cells: Sequence[Cell], out: Path) -> Table:
    """The cells as a table: what would run, and what is done."""
    table = Table("run", "arm", "seed", "settings", "state", title=f"{len(cells)} runs in {out}", title_justify="left")
    for cell in cells:
        done = Result(cell.arm, cell.seed, out / cell.folder, cell.id).done
        table.add_row(cell.id, cell.arm, str(cell.seed), " ".join(cell.overrides), "done" if done else "to run")
    return table
