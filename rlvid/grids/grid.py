"""An experiment: a question, axes whose levels are config overrides, seeds, a control and comparisons."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

from rlvid.errors import UserError
from rlvid.grids.adaptive import run_until_decided
from rlvid.grids.cell import Arm, Cell, Settings, cell_table, make_cell, select_cells
from rlvid.grids.job import Command
from rlvid.grids.launch import launch
from rlvid.grids.launchers import Launcher, LocalLauncher
from rlvid.grids.slurm import SlurmLauncher, parse_slurm_settings
from rlvid.registry import suggest
from rlvid.study.power import EQUIVALENCE_MARGIN
from rlvid.study.study import STATE_FILE
from rlvid.utils.arguments import ArgumentParser
from rlvid.utils.files import write_text

__all__ = ["Grid", "Level", "Settings"]

# A level is its settings, or a function of all axes' levels and the preset that returns them.
Level = Settings | Callable[[Mapping[str, str]], Settings | None]
TRAIN: Command = ("-m", "rlvid", "train")
ACCELERATE_LAUNCH: Command = ("-m", "accelerate.commands.launch")


@dataclass(frozen=True)
class Grid:
    """A research question, and the runs and comparisons that answer it.

    Each combination of levels, one of each axis, is an arm, named like "grpo, clean". Runs with the same seed share
    prompts, random numbers and noise: the seed of the noise is the seed of the run.

    Args:
        name: of the experiment; its runs go to runs/NAME.
        question: the research question.
        seeds: each arm is run once per seed.
        control: the arm that all others are compared with, unless there are `comparisons`.
        axes: axis -> level -> settings. A level may also be a function that returns its settings, or None if there is
            no such arm. It is called with the levels of all axes and the preset, such as
            {"algorithm": "backward", "noise": "clean", "preset": "nano"}. If two axes set the same key, the later axis
            takes precedence.
        arms: further arms, name -> settings. An arm may set "preset", such as "{preset}_sft".
        unseeded: arms that do not depend on the seed, such as an untrained model with greedy decoding; they are run
            with the first seed only.
        comparisons: pairs of arms.
        preset: what all cells start from, unless the command line names another one.
        equivalence_margin: arms are called equivalent if their difference is certainly smaller than this share; choose
            it before the runs. 0: a third of `effect_at_stake`, or 0.03 without one.
        effect_at_stake: the difference that the question is about, such as what an oracle gains; a share.
        endpoint: what is compared, named before the runs: "accuracy", or a reward that `eval.rewards` measures, such as
            "soft_accuracy", the probability of the right letter after the policy's own reasoning.
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
    equivalence_margin: float = 0.0
    effect_at_stake: float = 0.0
    endpoint: str = "accuracy"

    @property
    def margin(self) -> float:
        """The margin of equivalence, a share."""
        return self.equivalence_margin or self.effect_at_stake / 3 or EQUIVALENCE_MARGIN

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The comparisons: those named, or every arm with the control."""
        others = [arm for arm in self.all_arms(self.preset) if arm != self.control]
        return list(self.comparisons) or [(arm, self.control) for arm in others]

    def seed_numbers(self, count: int) -> list[int]:
        """The first `count` seeds: `seeds`, then the numbers that follow the largest of them."""
        more = range(max(self.seeds) + 1, max(self.seeds) + 1 + max(0, count - len(self.seeds)))
        return [*self.seeds, *more][:count]

    def all_arms(self, preset: str) -> dict[str, Arm]:
        """Return all arms by name: `arms`, then the combinations of levels."""
        arms = {name: Arm(name, {}, settings) for name, settings in self.arms.items()}
        for levels in product(*self.axes.values()) if self.axes else ():
            axis_levels = dict(zip(self.axes, levels, strict=True))
            settings = self._merge_levels(axis_levels, preset)
            if settings is not None:
                name = ", ".join(levels)
                arms[name] = Arm(name, axis_levels, settings)
        return arms

    def cells(self, preset: str, extra: Sequence[str] = (), seeds: Mapping[str, int] | None = None) -> list[Cell]:
        """Return one cell per arm and seed. Cells with equal configs are one run: they share a folder.

        Args:
            preset: what the cells start from.
            extra: overrides for all cells; what an arm sets takes precedence.
            seeds: arm -> number of seeds, instead of `seeds`.

        Raises:
            UserError: a config is wrong, or a name is not the name of an arm.
        """
        arms = self.all_arms(preset)
        self._check(arms)
        cells: list[Cell] = []
        folders: dict[str, str] = {}  # id of a config -> the folder of its first cell
        for arm in arms.values():
            count = 1 if arm.name in self.unseeded else (seeds or {}).get(arm.name, len(self.seeds))
            for seed in self.seed_numbers(count):
                cell = make_cell(arm, seed, preset, extra)
                folder = folders.setdefault(cell.id, cell.folder)
                cells.append(replace(cell, folder=folder))
        return cells

    def main(self, argv: Sequence[str] | None = None, command: Command = TRAIN) -> int:
        """Run the command line of an experiment script.

        Args:
            argv: the arguments; default: of this process.
            command: what Python runs for each cell.

        Returns:
            The exit code: 0, 1 if a cell failed, 2 for an error in the input, 130 after Ctrl-C.
        """
        try:
            return self._run(self._parse_arguments(argv), command)
        except UserError as error:
            print(f"rlvid: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("rlvid: interrupted; run the same command again to continue", file=sys.stderr)
            return 130

    def _merge_levels(self, axis_levels: Mapping[str, str], preset: str) -> Settings | None:
        """Return the settings of a combination of levels, or None if a level has no such arm."""
        merged: dict[str, Any] = {}
        for axis, name in axis_levels.items():
            level = self.axes[axis][name]
            settings = level({**axis_levels, "preset": preset}) if callable(level) else level
            if settings is None:
                return None
            merged |= settings
        return merged

    def _check(self, arms: Mapping[str, Arm]) -> None:
        """Raise UserError if the margin is not a share, or if a name is not the name of an arm."""
        for name in ("equivalence_margin", "effect_at_stake"):
            if not 0 <= (share := getattr(self, name)) < 1:
                raise UserError(f"grid {self.name!r}: {name} must be a share such as 0.03, not {share!r}")
        compared = [arm for pair in self.comparisons for arm in pair]
        for name in (self.control, *self.unseeded, *compared):
            if name not in arms:
                raise UserError(f"grid {self.name!r} has no arm {name!r}.{suggest(name, arms)}")

    def _run(self, args: argparse.Namespace, command: Command) -> int:
        """List or run the selected cells; returns the exit code."""
        cells = self.cells(args.preset, args.set)
        selected = select_cells(cells, args.only)
        suffix = f"-{Path(args.preset).stem}" if args.preset != self.preset else ""
        out = args.out or Path("runs") / f"{self.name}{suffix}"
        if args.dry_run:
            Console().print(cell_table(selected, out))
            return 0
        if args.until is None:
            if (out / STATE_FILE).is_file():
                raise UserError(
                    f"{out} holds an adaptive grid: continue it with --until decided, or give another --out"
                )
            self._write_grid_file(out, cells, self.margin)
        if args.accelerate:
            command = (*ACCELERATE_LAUNCH, "--config_file", str(args.accelerate), *command)
        launcher: Launcher
        if args.launcher == "slurm":
            launcher = SlurmLauncher(args.jobs, out, parse_slurm_settings(args.slurm))
        else:
            launcher = LocalLauncher(args.jobs, all_gpus_per_cell=args.accelerate is not None)
        if args.until is None:
            return launch(selected, out, launcher, command)
        if args.only:
            raise UserError("--only and --until decided exclude each other: a look needs all arms")
        if args.max_seeds < 2:
            raise UserError(f"--max-seeds must be 2 or more, not {args.max_seeds}: one seed shows no scatter")
        margin = args.margin / 100 if args.margin is not None else self.margin

        def run(seeds: Mapping[str, int]) -> tuple[int, list[Cell]]:
            cells = self.cells(args.preset, args.set, seeds)
            self._write_grid_file(out, cells, margin)
            return launch(cells, out, launcher, command), cells

        arms = list(self.all_arms(args.preset))
        return run_until_decided(out, self.pairs, arms, self.unseeded, margin, args.max_seeds, run)

    def _parse_arguments(self, argv: Sequence[str] | None) -> argparse.Namespace:
        parser = ArgumentParser(prog=f"{self.name}.py", description=self.question)
        add = parser.add_argument
        add("--preset", default=self.preset, help="what all cells start from (default: %(default)s)")
        add("--jobs", type=int, metavar="N", help="cells run at a time (default: one per GPU, or 1; with Slurm, all)")
        add("--out", type=Path, metavar="DIR", help=f"(default: runs/{self.name}, or runs/{self.name}-PRESET)")
        add(
            "--set",
            action="append",
            default=[],
            metavar="key=value",
            help="override a config key in all cells, unless their arm sets it",
        )
        add("--only", nargs="+", metavar="ARM", help='run only the arms that match a pattern, such as "grpo, *"')
        add("--launcher", choices=["local", "slurm"], default="local", help="where cells run (default: local)")
        add(
            "--slurm",
            nargs="+",
            default=[],
            metavar="key=value",
            help="parameters of submitit, such as partition=gpu time=240 (minutes)",
        )
        add("--accelerate", type=Path, metavar="YAML", help="run each cell with `accelerate launch` and this config")
        add("--dry-run", action="store_true", help="only list the cells")
        add("--until", choices=["decided"], help="add seeds to arms until their comparisons are decided")
        add("--max-seeds", type=int, default=8, metavar="N", help="with --until decided: at most N seeds (default: 8)")
        add("--margin", type=float, metavar="POINTS", help="with --until decided: the margin of equivalence")
        return parser.parse_args(argv)

    def _write_grid_file(self, out: Path, cells: Sequence[Cell], margin: float) -> None:
        """Write grid.json, from which the report reads the plan."""
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
            "name": self.name,
            "question": self.question,
            "control": self.control,
            "equivalence_margin": margin,
            "endpoint": self.endpoint,
            "unseeded": self.unseeded,
            "comparisons": self.pairs,
            "cells": rows,
        }
        write_text(out / "grid.json", json.dumps(content, indent=1))
