"""One function per command: take the parsed arguments, call rlvid/api.py, and return an exit code or None for 0."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from rlvid import api
from rlvid.cli import listing
from rlvid.errors import UserError


def train(args: argparse.Namespace) -> None:
    """Train and evaluate, or with --plan only estimate the memory."""
    if args.plan is not None:
        return api.estimate_memory(args.preset, args.overrides, args.plan)
    api.train(args.preset, args.overrides, args.out, args.resume)


def config(args: argparse.Namespace) -> None:
    """Check a config and print it as TOML. Its id is a comment, so that the output is a valid preset."""
    checked = api.check_config(args.preset, args.overrides)
    print(f"# id: {checked.id}\n{checked.to_toml()}", end="")


def evaluate(args: argparse.Namespace) -> None:
    """Evaluate a model and print its accuracy per level and domain."""
    api.evaluate(args.model, args.data, args.split, args.overrides, args.out)


def parity(args: argparse.Namespace) -> int:
    """Compare what trainer, sampler and published processor see; 1 if anything differs."""
    return int(not api.parity(args.model, args.data, args.overrides))


def grid(args: argparse.Namespace) -> int:
    """Run the cells of an experiment."""
    return api.grid(args.script, args.arguments)


def tune(args: argparse.Namespace) -> int:
    """Choose the settings of an experiment's arms."""
    return api.tune(args.script, args.preset, args.jobs, args.out, args.set)


def report(args: argparse.Namespace) -> None:
    """Print the report on a folder of runs."""
    api.report(args.runs, plots=not args.no_plots, html=args.html, json=args.json, csv=args.csv)


def watch(args: argparse.Namespace) -> None:
    """Show the progress of runs."""
    api.watch(args.runs, args.every, args.once)


def audit(args: argparse.Namespace) -> None:
    """Print the audit of a run."""
    api.audit(args.run)


def compare(args: argparse.Namespace) -> None:
    """Print cases on which two runs differ."""
    api.compare(args.a, args.b, args.pattern, args.level, args.domain, args.where, args.limit)


def attention(args: argparse.Namespace) -> None:
    """Draw attention over frames."""
    api.attention(args.runs, args.sample, args.of, args.layers, args.heads, args.out)


def export(args: argparse.Namespace) -> None:
    """Write a Hugging Face folder."""
    api.export(args.run, args.folder)
    Console().print(f"wrote {args.folder}")


def write_kitchen(args: argparse.Namespace) -> None:
    """Write the embedded benchmark."""
    from rlvid.data import kitchen

    kitchen.write(Path(args.folder), args.seed)
    Console().print(f"wrote {args.folder}")


def write_kitchen_long(args: argparse.Namespace) -> None:
    """Write the embedded transfer benchmark."""
    from rlvid.data import kitchen_long

    kitchen_long.write(Path(args.folder), args.seed)
    Console().print(f"wrote {args.folder}")


def get_data(args: argparse.Namespace) -> None:
    """Download a published benchmark."""
    from rlvid.data.hub import download

    download(args.name, Path(args.folder))


def check_data(args: argparse.Namespace) -> int:
    """Check a benchmark; the exit code is 2 if anything is wrong with it."""
    from rlvid.data.check import check_benchmark

    return 2 if check_benchmark(args.name) else 0


def write_pairs(args: argparse.Namespace) -> None:
    """Write preference pairs from the samples of a run."""
    from rlvid.data.preferences import write_pairs_of_run

    count = write_pairs_of_run(Path(args.run), Path(args.file))
    Console().print(f"wrote {count} pairs to {args.file}")


def bench(args: argparse.Namespace) -> None:
    """Run a benchmark of speed and memory, and print its tables."""
    api.bench(args.what, args.preset, args.against, args.pairs, args.groups, args.lora_r, args.seen, args.out)


def list_names(args: argparse.Namespace) -> None:
    """Print one of the lists, as wide as the terminal; in a pipe, each row is one line."""
    if args.what == "config":
        table = listing.config_table(args.section)
    elif args.section:
        raise UserError(f"rlvid list {args.what} takes no section; only rlvid list config does")
    else:
        table = listing.description_table(listing.LISTS[args.what]())
    width = None if sys.stdout.isatty() else 100_000
    Console(width=width, markup=False).print(table)  # no markup: a default such as [accuracy] is text
