"""Run the cells of a grid, several at a time. Finished cells are skipped, failed ones are repeated."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from rlvid.errors import UserError
from rlvid.grids.accelerate import launch_command
from rlvid.grids.cell import Cell
from rlvid.grids.job import Command, Job
from rlvid.grids.launchers import Launcher, LocalLauncher
from rlvid.grids.progress import ProgressDisplay
from rlvid.grids.slurm import SlurmLauncher, parse_slurm_settings

POLL_SECONDS = 0.2  # between two looks at the processes


def choose_launcher(args: Namespace, out: Path, command: Command) -> tuple[Launcher, Command]:
    """Return the launcher that the command line names, and the arguments of Python that train one cell with it.

    Args:
        args: the command line, see `parse_arguments`.
        out: the folder of the grid.
        command: the arguments of Python that train one cell in one process.

    Raises:
        UserError: Slurm cannot be used, a setting is wrong, or several cells of several processes would share GPUs.
    """
    if args.launcher == "local":
        if args.accelerate and (args.jobs or 1) > 1:
            raise UserError(
                f"--jobs {args.jobs}: with --accelerate each cell uses all GPUs and the same port, so cells run one "
                "after the other: leave --jobs out, or use --launcher slurm"
            )
        launcher: Launcher = LocalLauncher(args.jobs, all_gpus_per_cell=args.accelerate is not None)
        nodes = 1
    else:
        launcher = SlurmLauncher(args.jobs, out, parse_slurm_settings(args.slurm))
        nodes = launcher.nodes
    if args.accelerate:
        command = launch_command(args.accelerate, command, nodes)
    elif nodes > 1:
        raise UserError(
            f"--slurm: nodes={nodes} requires --accelerate YAML, which says how many processes run on each node"
        )
    return launcher, command


def launch(cells: Sequence[Cell], out: Path, launcher: Launcher, command: Command) -> int:
    """Run all cells that are not done yet, and show their progress.

    A cell that fails does not stop the others. On return, and on an exception, the launcher's processes are stopped.

    Args:
        cells: what to run; cells with equal ids are run once.
        out: the folder of the grid.
        launcher: starts the processes.
        command: the arguments of Python that train one cell.

    Returns:
        The exit code: 0, or 1 if a cell failed.
    """
    unique_cells = {cell.id: cell for cell in cells}.values()
    jobs = [Job(cell, out / cell.folder, command) for cell in unique_cells]
    free_slots = list(range(min(launcher.width, len(jobs))))
    with ProgressDisplay(jobs, out) as display:
        try:
            while unfinished := [job for job in jobs if not job.finished]:
                for job in unfinished:
                    _advance(job, launcher, free_slots)
                display.update()
                time.sleep(POLL_SECONDS)
        finally:
            for job in jobs:
                job.stop()
    return display.print_summary()


def _advance(job: Job, launcher: Launcher, free_slots: list[int]) -> None:
    """Update a running job, or start a waiting one if a slot is free; keeps `free_slots` up to date."""
    if job.state == "running":
        job.update()
        if job.state != "running":
            free_slots.append(job.slot)
    elif free_slots:
        job.start(launcher, free_slots[0])
        if job.state == "running":
            del free_slots[0]
