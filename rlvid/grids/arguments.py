"""The command line of an experiment script."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rlvid.errors import UserError
from rlvid.utils.arguments import ArgumentParser


def parse_arguments(name: str, question: str, preset: str, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments of `rlvid grid SCRIPT` or of the script itself.

    Args:
        name: of the experiment.
        question: the research question, for --help.
        preset: the default of --preset.
        argv: the arguments; None: of this process.

    Raises:
        UserError: an argument has no effect without another one, or a value that cannot be.
    """
    parser = ArgumentParser(prog=f"rlvid grid {name}.py", description=question)
    add = parser.add_argument
    add("--preset", default=preset, help="what all cells start from (default: %(default)s)")
    add("--jobs", type=int, metavar="N", help="cells run at a time (default: one per GPU, or 1; with Slurm, all)")
    add("--out", type=Path, metavar="DIR", help=f"(default: runs/{name}, or runs/{name}-PRESET)")
    add(
        "--set",
        nargs="+",
        default=[],
        metavar="key=value",
        help="override config keys in all cells, unless their arm sets them",
    )
    add("--only", nargs="+", metavar="ARM", help='run only the arms that match a pattern, such as "grpo, *"')
    add("--launcher", choices=["local", "slurm"], default="local", help="where cells run (default: local)")
    add(
        "--slurm",
        nargs="+",
        default=[],
        metavar="key=value",
        help="parameters of submitit, such as partition=gpu time=240 (minutes) nodes=2 (for each cell)",
    )
    add("--accelerate", type=Path, metavar="YAML", help="run each cell with `accelerate launch` and this config")
    add("--dry-run", action="store_true", help="only list the cells")
    add("--strict", action="store_true", help="refuse arms that differ in a setting that no definition names")
    add("--until", choices=["decided"], help="add seeds to arms until their comparisons are decided")
    add("--max-seeds", type=int, metavar="N", help="with --until decided: at most N seeds (default: 8)")
    add("--margin", type=float, metavar="POINTS", help="with --until decided: the margin of equivalence")
    args = parser.parse_args(argv)
    _check(args)
    return args


def _check(args: argparse.Namespace) -> None:
    """Raise UserError for arguments without an effect, and for values that cannot be."""
    for name in ("--margin", "--max-seeds"):
        if args.until is None and getattr(args, name[2:].replace("-", "_")) is not None:
            raise UserError(f"{name} requires --until decided: a grid with fixed seeds has what its script says")
    if args.slurm and args.launcher != "slurm":
        raise UserError("--slurm requires --launcher slurm")
    if args.until and args.only:
        raise UserError("--only and --until decided exclude each other: a look needs all arms")
    if args.margin is not None and not 0 < args.margin < 100:
        raise UserError(f"--margin must be points between 0 and 100, such as 3, not {args.margin:g}")
    if args.max_seeds is not None and args.max_seeds < 2:
        raise UserError(f"--max-seeds must be 2 or more, not {args.max_seeds}: one seed shows no scatter")
