"""The command line of an experiment script."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rlvid.utils.arguments import ArgumentParser


def parse_arguments(name: str, question: str, preset: str, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments of `rlvid grid SCRIPT` or of the script itself.

    Args:
        name: of the experiment.
        question: the research question, for --help.
        preset: the default of --preset.
        argv: the arguments; None: of this process.
    """
    parser = ArgumentParser(prog=f"{name}.py", description=question)
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
    add("--max-seeds", type=int, default=8, metavar="N", help="with --until decided: at most N seeds (default: 8)")
    add("--margin", type=float, metavar="POINTS", help="with --until decided: the margin of equivalence")
    return parser.parse_args(argv)
