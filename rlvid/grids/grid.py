"""An experiment: a question, axes whose levels are config overrides, seeds, a control and comparisons."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from rich.text import Text

from rlvid.errors import UserError
from rlvid.grids.accelerate import check_process_count
from rlvid.grids.adaptive import run_until_decided
from rlvid.grids.arguments import parse_arguments
from rlvid.grids.cell import Arm, Cell, Settings, cell_table, make_cell, other_runs_note, override_keys, select_cells
from rlvid.grids.checks import check_endpoint, check_grid, check_models, check_neutral, check_untrained
from rlvid.grids.differences import find_differences, print_parts, report_differences
from rlvid.grids.earlier_runs import take_up_runs, unused_runs_note
from rlvid.grids.job import Command
from rlvid.grids.launch import choose_launcher, launch
from rlvid.grids.plan import adaptive_plan, adaptive_share, plan_table, planned_changes, write_grid_file
from rlvid.grids.tuned import Tuned, read_tuned
from rlvid.study.power import EQUIVALENCE_MARGIN
from rlvid.study.sequential import LOOKS
from rlvid.study.study import STATE_FILE

__all__ = ["Grid", "Level", "Settings"]

# A level is its settings, or a function of all axes' levels and the preset that returns them.
Level = Settings | Callable[[Mapping[str, str]], Settings | None]
TRAIN: Command = ("-m", "rlvid", "train")


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
        interactions: (arm, arm changed, other, other changed): how much more a change, such as noise, costs an arm than
            another one, (arm - arm changed) - (other - other changed). On all levels together, in the same family as
            the comparisons.
        effect_order: (arm, other, arm elsewhere, other elsewhere): pairs of effects, such as what a reward gains with a
            small and with a large model, whose rank correlation is reported; at least three.
        positive_controls: comparisons whose first arm must be better by the design of the experiment, such as a reward
            that pays what is measured. If it is not, the report says first that nothing else can be read.
        negative_controls: comparisons whose first arm must not be better, such as a random reward.
        preset: what all cells start from, unless the command line names another one.
        equivalence_margin: arms are called equivalent if their difference is certainly smaller than this share; choose
            it before the runs. 0: a third of `effect_at_stake`, or 0.03 without one.
        effect_at_stake: the difference that the question is about, such as what an oracle gains; a share.
        endpoint: what is compared, named before the runs: "accuracy", or a reward that `eval.rewards` measures, such as
            "soft_accuracy", the probability of the right letter after the policy's own reasoning.
        success_threshold: for runs that end in one of two ways: a run succeeds if its endpoint, the mean of all levels,
            is above it, and the report also compares how many runs succeed. Choose it before the runs.
        settings: of all arms; --set and what an arm sets take precedence.
        tuned: a file that `rlvid tune` wrote, such as Path(__file__).parent / "tuned/NAME-{preset}.toml". What it chose
            for an arm is applied as `settings` are. Without a file for the preset, arms are not tuned, and the report
            says so; the grid's own preset needs one.
        tune: what `rlvid tune` tries for each arm that trains: key -> candidates. Every combination is one trial.
        tune_arms: arm -> its own candidates instead; they must give as many trials.
        tune_as: arm -> the arm whose choice it takes, without trials of its own.
        tune_seed: the seed of the trials; no run of the grid has it.
    """

    name: str
    question: str
    seeds: tuple[int, ...]
    control: str
    axes: Mapping[str, Mapping[str, Level]] = field(default_factory=dict)
    arms: Mapping[str, Settings] = field(default_factory=dict)
    unseeded: tuple[str, ...] = ()
    comparisons: tuple[tuple[str, str], ...] = ()
    interactions: tuple[tuple[str, str, str, str], ...] = ()
    effect_order: tuple[tuple[str, str, str, str], ...] = ()
    positive_controls: tuple[tuple[str, str], ...] = ()
    negative_controls: tuple[tuple[str, str], ...] = ()
    preset: str = "nano"
    equivalence_margin: float = 0.0
    effect_at_stake: float = 0.0
    endpoint: str = "accuracy"
    success_threshold: float | None = None
    settings: Settings = field(default_factory=dict)
    tuned: Path | None = None
    tune: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    tune_arms: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    tune_as: Mapping[str, str] = field(default_factory=dict)
    tune_seed: int = 1000

    @property
    def margin(self) -> float:
        """The margin of equivalence, a share."""
        return self.equivalence_margin or self.effect_at_stake / 3 or EQUIVALENCE_MARGIN

    def pairs(self, arms: Iterable[str]) -> list[tuple[str, str]]:
        """Return the comparisons: those named, or each of some arms with the control."""
        return list(self.comparisons) or [(arm, self.control) for arm in arms if arm != self.control]

    def seed_numbers(self, count: int) -> list[int]:
        """The first `count` seeds: `seeds`, then the numbers that follow the largest of them."""
        more = range(max(self.seeds) + 1, max(self.seeds) + 1 + max(0, count - len(self.seeds)))
        return [*self.seeds, *more][:count]

    def all_arms(self, preset: str) -> dict[str, Arm]:
        """Return all arms by name: `arms`, then the combinations of levels.

        Raises:
            UserError: two arms have the same name, such as "a, b" with "c" and "a" with "b, c".
        """
        arms = {name: Arm(name, {}, settings) for name, settings in self.arms.items()}
        for levels in product(*self.axes.values()) if self.axes else ():
            axis_levels = dict(zip(self.axes, levels, strict=True))
            settings = self._merge_levels(axis_levels, preset)
            if settings is not None:
                name = ", ".join(levels)
                if name in arms:
                    raise UserError(f"grid {self.name!r}: two arms are called {name!r}: rename a level or an arm")
                arms[name] = Arm(name, axis_levels, settings)
        return arms

    def cells(self, preset: str, extra: Sequence[str] = (), seeds: Mapping[str, int] | None = None) -> list[Cell]:
        """Return one cell per arm and seed. Cells with equal configs are one run: they share a folder.

        Args:
            preset: what the cells start from.
            extra: overrides for all cells; what an arm sets takes precedence.
            seeds: arm -> number of seeds, instead of `seeds`.

        Raises:
            UserError: a config is wrong, a name is not the name of an arm, or an arm that trains was not tuned.
        """
        arms, tuned = self.all_arms(preset), self.read_tuned(preset)
        check_grid(self, arms)
        cells: list[Cell] = []
        folders: dict[str, str] = {}  # id of a config -> the folder of its first cell
        for arm in arms.values():
            defaults = {**self.settings, **(tuned.settings(arm.name) if tuned else {})}
            count = 1 if arm.name in self.unseeded else (seeds or {}).get(arm.name, len(self.seeds))
            for seed in self.seed_numbers(count):
                cell = make_cell(arm, seed, preset, extra, defaults)
                if tuned and cell.steps and arm.name not in tuned.arms:
                    raise UserError(f"{tuned.path} has no settings for arm {arm.name!r}: run rlvid tune again")
                folder = folders.setdefault(cell.id, cell.folder)
                cells.append(replace(cell, folder=folder))
        return cells

    def tuned_path(self, preset: str) -> Path | None:
        """The file of settings that are tuned for a preset; None if the grid names none."""
        return Path(str(self.tuned).format(preset=Path(preset).stem)) if self.tuned else None

    def read_tuned(self, preset: str) -> Tuned | None:
        """Return the tuned settings for a preset; None if the arms are not tuned for it.

        Raises:
            UserError: the grid's own preset has no file, or the file is damaged.
        """
        path = self.tuned_path(preset)
        if path is None:
            return None
        tuned = read_tuned(path)
        if tuned is None and preset == self.preset:
            raise UserError(f"grid {self.name!r}: no file {path}: run rlvid tune on this script first, or drop tuned=")
        return tuned if tuned and tuned.table["preset"] == preset else None

    def describe_tuning(self, preset: str, extra: Sequence[str] = ()) -> str:
        """Say how the settings of the arms were chosen; "" for a grid without `tuned`."""
        if self.tuned is None:
            return ""
        tuned = self.read_tuned(preset)
        return (
            tuned.describe(override_keys(extra))
            if tuned
            else f"not tuned for preset {preset}: arms have the preset's settings"
        )

    def main(self, argv: Sequence[str] | None = None, command: Command = TRAIN) -> int:
        """Run the command line of an experiment script.

        Args:
            argv: the arguments; default: of this process.
            command: what Python runs for each cell.

        Returns:
            The exit code: 0, 1 if a cell failed, 2 for an error in the input, 130 after Ctrl-C.
        """
        try:
            return self._run(parse_arguments(self.name, self.question, self.preset, argv), command)
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

    def _run(self, args: argparse.Namespace, command: Command) -> int:
        """List or run the selected cells; returns the exit code."""
        suffix = f"-{Path(args.preset).stem}" if args.preset != self.preset else ""
        out = args.out or Path("runs") / f"{self.name}{suffix}"
        cells = take_up_runs(self.cells(args.preset, args.set), out)
        selected, tuning = select_cells(cells, args.only), self.describe_tuning(args.preset, args.set)
        arms = list(dict.fromkeys(cell.arm for cell in cells))
        pairs = self.pairs(arms)
        differences = find_differences(cells, pairs, self.control)
        notes = list(report_differences(differences, args.strict))
        check_untrained(self, cells)
        check_endpoint(self, cells)
        check_neutral(self, cells)
        changes = planned_changes(self, cells, out) if args.until is None else []
        margin = args.margin / 100 if args.margin is not None else None
        warnings = [Text(line, style="yellow") for line in (unused_runs_note(selected, out), *changes) if line]
        if args.dry_run:
            note = Text(other_runs_note(cells, out), style="yellow")
            chosen = Text(f"settings: {tuning}" if tuning else "")
            lines = [line for line in (chosen, *warnings, note) if line.plain]
            print_parts([*notes, plan_table(self, cells, margin), cell_table(selected, out), *lines])
            return 0
        check_models(selected)
        if args.until and self.success_threshold is not None:
            raise UserError(
                f"grid {self.name!r}: success_threshold= counts runs once, and its error rate is not divided among the "
                "looks of --until: start without --until, or drop success_threshold="
            )
        if args.until is None and (out / STATE_FILE).is_file():
            raise UserError(f"{out} holds an adaptive grid: continue it with --until decided, or give another --out")
        launcher, command = choose_launcher(args, out, command)
        if args.accelerate:
            check_process_count(selected, command)
        print_parts([*notes, *warnings], stderr=True)
        if args.until is None:
            write_grid_file(self, out, cells, tuning)
            return launch(selected, out, launcher, command)
        max_seeds = LOOKS[-1] if args.max_seeds is None else args.max_seeds
        margin = self.margin if margin is None else margin

        def run(seeds: Mapping[str, int]) -> tuple[int, list[Cell]]:
            cells = take_up_runs(self.cells(args.preset, args.set, seeds), out)
            write_grid_file(self, out, cells, tuning, margin)
            return launch(cells, out, launcher, command), cells

        more = (adaptive_plan(self, cells, max_seeds), adaptive_share(cells))
        return run_until_decided(out, pairs, arms, self.unseeded, margin, max_seeds, run, self.interactions, *more)
