"""An experiment: a question, axes whose levels are config overrides, seeds, a control, comparisons; and its cells."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import groupby, product
from pathlib import Path
from typing import Any

import tomli_w
from rich.console import Console
from rich.table import Table

from rlvid.config import load
from rlvid.errors import UserError
from rlvid.grids.launch import Command, launch
from rlvid.grids.launchers import Launcher, Local, Slurm
from rlvid.registry import suggest
from rlvid.study.power import EQUIVALENCE_MARGIN
from rlvid.study.runs import Run
from rlvid.utils.files import write_text

Settings = Mapping[str, Any]  # config key -> value, such as {"noise.rate": 0.3}
Level = Settings | Callable[[Mapping[str, str]], Settings | None]  # or what depends on the levels of the other axes
TRAIN: Command = ("-m", "rlvid", "train")


@dataclass(frozen=True)
class Cell:
    """One run: an arm under one seed."""

    arm: str
    levels: Mapping[str, str]  # axis -> level
    seed: int
    preset: str
    overrides: tuple[str, ...]
    steps: int
    id: str
    folder: str  # its run folder's name; the id in it keeps different configs apart


@dataclass(frozen=True)
class Grid:
    """A question, and the runs and comparisons that answer it.

    Every combination of the axes' levels is an arm, named like "grpo, clean"; `arms` are further ones. A level may be a
    function of all axes' levels and the preset, {"algorithm": "backward", "noise": "clean", "preset": "nano"}: it
    returns what it sets there, or None where there is no such arm. An arm in `unseeded` does not depend on the seed, as
    an untrained base that answers greedily, and runs under the first alone. Cells of equal seed share prompts, luck and
    noise: the noise's seed follows the run's. An arm that sets "preset" starts from another one, such as
    "{preset}_sft". Without `comparisons`, every arm is compared with the control. Arms whose difference in accuracy is
    sure to be less than `equivalence_margin` are called equivalent: choose it before the runs.
    """

    name: str
    question: str
    seeds: tuple[int, ...]
    control: str
    axes: Mapping[str, Mapping[str, Level]] = field(default_factory=dict)
    arms: Mapping[str, Settings] = field(default_factory=dict)
    unseeded: tuple[str, ...] = ()
    comparisons: tuple[tuple[str, str], ...] = ()
    preset: str = "nano"
    equivalence_margin: float = EQUIVALENCE_MARGIN

    def settings(self, preset: str) -> dict[str, tuple[dict[str, str], dict[str, Any]]]:
        """Arm -> its level on each axis, and what it sets; where two axes set one key, the later one does."""
        arms: dict[str, tuple[dict[str, str], dict[str, Any]]] = {name: ({}, dict(s)) for name, s in self.arms.items()}
        for choice in product(*self.axes.values()) if self.axes else ():
            levels = dict(zip(self.axes, choice, strict=True))
            found = [axis[name] for axis, name in zip(self.axes.values(), choice, strict=True)]
            settings = [level(levels | {"preset": preset}) if callable(level) else level for level in found]
            if None not in settings:
                arms[", ".join(choice)] = levels, {k: v for level in settings if level for k, v in level.items()}
        return arms

    def cells(self, preset: str, extra: Sequence[str] = ()) -> list[Cell]:
        """Every arm under every seed; `extra` overrides lie under what the arms set.

        Cells with equal ids are one run and share its folder. UserError where a config is wrong or a name is no arm's.
        """
        cells: list[Cell] = []
        folders: dict[str, str] = {}
        arms = self.settings(preset)
        if not 0 < self.equivalence_margin < 1:
            raise UserError(
                f"grid {self.name!r}: equivalence_margin must be a share such as 0.03, not {self.equivalence_margin!r}"
            )
        for name in (self.control, *self.unseeded, *(arm for pair in self.comparisons for arm in pair)):
            if name not in arms:
                raise UserError(f"grid {self.name!r} names no arm {name!r}.{suggest(name, arms)}")
        for arm, (levels, settings) in arms.items():
            slug = re.sub(r"[^a-z0-9.]+", "-", arm.lower()).strip("-")
            for seed in self.seeds[:1] if arm in self.unseeded else self.seeds:
                luck = {"seed": seed, "noise.seed": seed} if "noise.kind" in settings else {"seed": seed}
                own = settings | luck
                base = own.pop("preset", "{preset}").format(preset=preset)
                overrides = (*extra, *(assignment(key, value) for key, value in own.items()))
                config = load(base, overrides)
                folder = folders.setdefault(config.id, f"{slug}-seed{seed}-{config.id[:8]}")
                cells.append(Cell(arm, levels, seed, base, overrides, config.train.max_steps, config.id, folder))
        return cells

    def main(self, argv: Sequence[str] | None = None, command: Command = TRAIN) -> int:
        """The script's command line; returns the exit code: 1 if a cell failed, 2 on a user's mistake."""
        args = self._arguments(argv)
        try:
            cells = self.cells(args.preset, args.set)
            chosen = only(cells, args.only)
            other = f"-{Path(args.preset).stem}" if args.preset != self.preset else ""
            out = args.out or Path("runs") / f"{self.name}{other}"
            if args.dry_run:
                Console().print(plan(chosen, out))
                return 0
            self._write(out, cells)
            if args.accelerate:
                command = ("-m", "accelerate.commands.launch", "--config_file", str(args.accelerate), *command)
            if args.launcher == "slurm":
                launcher: Launcher = Slurm(args.jobs, out, submission(args.slurm))
            else:
                launcher = Local(args.jobs, whole=args.accelerate is not None)
            return launch(chosen, out, launcher, command)
        except UserError as error:
            print(f"rlvid: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("rlvid: interrupted; the same command goes on where it stopped", file=sys.stderr)
            return 130

    def _arguments(self, argv: Sequence[str] | None) -> argparse.Namespace:
        parser = argparse.ArgumentParser(prog=f"{self.name}.py", description=self.question)
        parser.add_argument("--preset", default=self.preset, help="what all cells start from (default: %(default)s)")
        parser.add_argument("--jobs", type=int, metavar="N", help="cells at a time (default: the number of GPUs, or 1)")
        parser.add_argument(
            "--out", type=Path, metavar="DIR", help=f"(default: runs/{self.name}, and the preset's name)"
        )
        parser.add_argument(
            "--set", action="append", default=[], metavar="key=value", help="for all cells, unless their arm sets it"
        )
        parser.add_argument("--only", nargs="+", metavar="ARM", help='run these arms now, such as "grpo, *"')
        parser.add_argument("--launcher", choices=["local", "slurm"], default="local", help="where cells run")
        parser.add_argument(
            "--slurm",
            nargs="+",
            default=[],
            metavar="key=value",
            help="submitit's, such as partition=gpu time=240",
        )
        parser.add_argument("--accelerate", type=Path, metavar="YAML", help="accelerate launch each cell with it")
        parser.add_argument("--dry-run", action="store_true", help="only list the cells")
        return parser.parse_args(argv)

    def _write(self, out: Path, cells: Sequence[Cell]) -> None:
        """Tell the report what belongs to this grid."""
        about: dict[str, Any] = {"name": self.name, "question": self.question, "control": self.control}
        about["equivalence_margin"] = self.equivalence_margin
        pairs = self.comparisons or [
            (arm, self.control) for arm in dict.fromkeys(c.arm for c in cells) if arm != self.control
        ]
        rows = [{k: getattr(c, k) for k in ("arm", "levels", "seed", "folder", "id", "overrides")} for c in cells]
        write_text(out / "grid.json", json.dumps(about | {"comparisons": pairs, "cells": rows}, indent=1))


def only(cells: Sequence[Cell], patterns: Sequence[str] | None) -> list[Cell]:
    """The cells whose arm fits one of the patterns, in the patterns' order; all without any."""
    if not patterns:
        return list(cells)
    chosen: dict[tuple[str, int], Cell] = {}
    for pattern in patterns:
        fitting = {(cell.arm, cell.seed): cell for cell in cells if fnmatchcase(cell.arm, pattern)}
        if not fitting:
            raise UserError(f"--only {pattern!r} fits no arm.{suggest(pattern, {cell.arm for cell in cells})}")
        chosen |= fitting
    return list(chosen.values())


def submission(pairs: Sequence[str]) -> dict[str, Any]:
    """`key=value` words for submitit; what looks like a number is one."""
    for pair in pairs:
        if not re.fullmatch(r"\w+=.+", pair):
            raise UserError(f"--slurm {pair!r} is not key=value")
    split = (pair.split("=", 1) for pair in pairs)
    return {key: int(value) if value.isdigit() else value for key, value in split}


def assignment(key: str, value: Any) -> str:
    """`train.max_steps`, 3 -> the override `train.max_steps=3`, as TOML writes it."""
    written = tomli_w.dumps({"x": value}).partition("=")[2]
    return f"{key}={' '.join(line.strip() for line in written.strip().splitlines())}"


def plan(cells: Sequence[Cell], out: Path) -> Table:
    """The arms, what they set, and how many of their cells are done, as a table."""
    table = Table("arm", "seeds", "settings", "done", box=None, padding=(0, 2, 0, 0), title=str(out))
    for arm, group in groupby(cells, key=lambda cell: cell.arm):
        own = list(group)
        shared = [each for each in own[0].overrides if all(each in cell.overrides for cell in own[1:])]
        done = sum(Run(arm, cell.seed, out / cell.folder, cell.id).done for cell in own)
        settings = " ".join(each for each in shared if not each.startswith("seed="))
        table.add_row(arm, " ".join(str(cell.seed) for cell in own), settings, f"{done} of {len(own)}")
    return table
