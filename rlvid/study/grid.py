"""An experiment: a question, axes whose levels are config overrides, seeds, a control and comparisons; and its cells' runs.

Every cell is one `rlvid train` process in a folder named by its config's id. So a grid skips what is done, resumes
what was cut off, and can never mix two configs.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import tomli_w
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from rlvid.config import load
from rlvid.errors import UserError
from rlvid.files import read_json, write
from rlvid.resolve import suggest

Overrides = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One run: an arm under one seed."""

    arm: str
    levels: Mapping[str, str]
    seed: int
    overrides: tuple[str, ...]
    id: str
    folder: str


@dataclass(frozen=True)
class Grid:
    """Arms are the product of the axes' levels, named like "grpo, clean", and whatever stands in `arms` besides.

    An arm in `unseeded` does not depend on the seed, and runs under the first alone. Cells of equal seed share prompts,
    luck and noise: the noise's seed follows the run's.
    """

    name: str
    question: str
    seeds: tuple[int, ...]
    control: str
    axes: Mapping[str, Mapping[str, Overrides]] = field(default_factory=dict)
    arms: Mapping[str, Overrides] = field(default_factory=dict)
    unseeded: tuple[str, ...] = ()
    comparisons: tuple[tuple[str, str], ...] = ()
    preset: str = "nano"

    def cells(self, preset: str, extra: Sequence[str] = ()) -> list[Cell]:
        """Every arm under every seed, resolved; raises UserError where a name or an override is wrong."""
        arms = self._arms()
        for name in (self.control, *self.unseeded, *(arm for pair in self.comparisons for arm in pair)):
            if name not in arms:
                raise UserError(f"grid {self.name!r} names no arm {name!r}.{suggest(name, arms)}")
        return [
            self._cell(preset, arm, levels, overrides, seed, extra)
            for arm, (levels, overrides) in arms.items()
            for seed in (self.seeds[:1] if arm in self.unseeded else self.seeds)
        ]

    def main(self, argv: Sequence[str] | None = None) -> int:
        """The script's command line; returns the exit code."""
        parser = argparse.ArgumentParser(prog=f"{self.name}.py", description=self.question)
        parser.add_argument("--preset", default=self.preset, help=f"what all cells start from (default: {self.preset})")
        parser.add_argument("--jobs", type=int, default=1, metavar="N", help="so many cells at a time")
        parser.add_argument("--out", type=Path, default=Path("runs") / self.name, help=f"(default: runs/{self.name})")
        parser.add_argument("--set", action="append", default=[], metavar="key=value", help="an override for all cells")
        parser.add_argument("--launcher", choices=["local"], default="local", help="where cells run")
        parser.add_argument("--dry-run", action="store_true", help="only list the cells")
        args = parser.parse_args(argv)
        try:
            cells = self.cells(args.preset, args.set)
            if args.dry_run:
                Console().print(plan(cells, args.out))
                return 0
            self._write(args.out, args.preset, cells)
            return run(cells, args.out, args.preset, max(1, args.jobs))
        except UserError as error:
            print(f"rlvid: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("rlvid: interrupted; the same command goes on where it stopped", file=sys.stderr)
            return 130

    def _arms(self) -> dict[str, tuple[dict[str, str], dict[str, Any]]]:
        """Arm name -> its level on each axis, and its overrides."""
        arms: dict[str, tuple[dict[str, str], dict[str, Any]]] = {n: ({}, dict(o)) for n, o in self.arms.items()}
        for choice in product(*(axis.items() for axis in self.axes.values())) if self.axes else ():
            levels = dict(zip(self.axes, (name for name, _ in choice), strict=True))
            merged = {key: value for _, overrides in choice for key, value in overrides.items()}
            arms[", ".join(levels.values())] = (levels, merged)
        return arms

    def _cell(
        self, preset: str, arm: str, levels: Mapping[str, str], overrides: Overrides, seed: int, extra: Sequence[str]
    ) -> Cell:
        paired = {"seed": seed, "noise.seed": seed} if "noise.kind" in overrides else {"seed": seed}
        assignments = (*(assignment(k, v) for k, v in ({**overrides} | paired).items()), *extra)
        config = load(preset, assignments)
        slug = re.sub(r"[^a-z0-9.]+", "-", arm.lower()).strip("-")
        return Cell(arm, levels, seed, assignments, config.id, f"{slug}-seed{seed}-{config.id[:8]}")

    def _write(self, out: Path, preset: str, cells: Sequence[Cell]) -> None:
        about: dict[str, Any] = {
            "name": self.name,
            "question": self.question,
            "preset": preset,
            "control": self.control,
        }
        about |= {"comparisons": self.comparisons, "axes": {axis: list(levels) for axis, levels in self.axes.items()}}
        write(out / "grid.json", json.dumps(about | {"cells": [vars(cell) for cell in cells]}, indent=1))


def assignment(key: str, value: Any) -> str:
    """`train.steps`, 3 -> the override train.steps = 3, as TOML writes it."""
    return f"{key}={tomli_w.dumps({'x': value}).partition('=')[2].strip()}"


def plan(cells: Sequence[Cell], out: Path) -> Table:
    """The cells and where they stand, as a table."""
    table = Table("arm", "seed", "id", "state", box=None, padding=(0, 2, 0, 0))
    for cell in cells:
        table.add_row(cell.arm, str(cell.seed), cell.id, state(out / cell.folder)["state"])
    return table


def state(folder: Path) -> dict[str, Any]:
    """A cell's status.json, or that it has not been started."""
    return read_json(folder / "status.json") or {"state": "not started", "step": 0, "steps": 0, "phase": ""}


def run(cells: Sequence[Cell], out: Path, preset: str, jobs: int) -> int:
    """Run the cells that are not done, `jobs` at a time; returns 1 if any failed, and says which and why."""
    unique = list({cell.id: cell for cell in cells}.values())
    waiting = [cell for cell in unique if state(out / cell.folder)["state"] != "done"]
    console = Console(stderr=True)
    console.print(f"{len(unique)} cells, {len(unique) - len(waiting)} done already, {jobs} at a time", highlight=False)
    failed: dict[str, str] = {}
    with Board(console, unique, out) as board:
        running: dict[subprocess.Popen[bytes], tuple[Cell, str | None]] = {}
        free = devices(jobs)
        try:
            while waiting or running:
                while waiting and free:
                    cell, device = waiting.pop(0), free.pop(0)
                    running[start(cell, out, preset, jobs, device)] = (cell, device)
                time.sleep(0.2)
                for child in [c for c in running if c.poll() is not None]:
                    cell, device = running.pop(child)
                    free.append(device)
                    if child.returncode:
                        failed[cell.folder] = last_words(out / f"{cell.folder}.log")
                board.update(failed)
        finally:
            for child in running:
                child.terminate()
            for child in running:
                child.wait()
    for folder, why in failed.items():
        console.print(f"failed: {folder}: {why}", highlight=False, markup=False)
    return 1 if failed else 0


def start(cell: Cell, out: Path, preset: str, jobs: int, device: str | None) -> subprocess.Popen[bytes]:
    """Start a cell's process; it dies with this one, however this one dies."""
    environment = dict(os.environ)
    if device is None:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    else:
        environment["CUDA_VISIBLE_DEVICES"] = device
    command = [sys.executable, "-m", "rlvid", "train", preset, *cell.overrides, "--out", str(out / cell.folder)]
    with (out / f"{cell.folder}.log").open("ab") as log:
        return subprocess.Popen(
            [*command, "--resume"], stdout=log, stderr=log, env=environment, preexec_fn=_die_with_parent
        )


def devices(jobs: int) -> list[str | None]:
    """A GPU for each job, in turn; None for each where there is none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None and shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
        visible = ",".join(str(i) for i, line in enumerate(listed.splitlines()) if line.startswith("GPU"))
    gpus = [name for name in (visible or "").split(",") if name]
    return [gpus[i % len(gpus)] if gpus else None for i in range(jobs)]


def last_words(log: Path) -> str:
    """The last line that a cell wrote."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"


def _die_with_parent() -> None:
    """Linux's PR_SET_PDEATHSIG: the kernel ends this process when its parent ends, even by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Board:
    """One display for all cells: a line for each that runs, and the whole; plain lines where nobody watches."""

    def __init__(self, console: Console, cells: Sequence[Cell], out: Path) -> None:
        self.console, self.cells, self.out = console, cells, out
        self.said: dict[str, str] = {}
        self.lines: dict[str, TaskID] = {}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, TextColumn("{task.fields[note]}"), console=console)
        self.live = console.is_terminal
        self.progress.disable = not self.live

    def __enter__(self) -> Board:
        self.progress.start()
        self.whole = self.progress.add_task("all cells", total=len(self.cells), note="")
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def update(self, failed: Mapping[str, str]) -> None:
        """Read every cell's status and show it."""
        over = 0
        for cell in self.cells:
            about = state(self.out / cell.folder)
            now = "failed" if cell.folder in failed else about["state"]
            over += now in ("done", "failed")
            if now == "running" and cell.folder not in self.lines:
                self.lines[cell.folder] = self.progress.add_task(f"{cell.arm}, seed {cell.seed}", total=None, note="")
            if cell.folder in self.lines:
                line, steps = self.lines[cell.folder], about["steps"] or None
                self.progress.update(line, completed=about["step"], total=steps, note=about["phase"])
                self.progress.update(line, visible=now == "running")
            if now != self.said.get(cell.folder, "not started") and not self.live:
                self.console.print(f"{now}: {cell.arm}, seed {cell.seed}", highlight=False, markup=False)
            self.said[cell.folder] = now
        self.progress.update(self.whole, completed=over)
