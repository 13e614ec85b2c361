"""One function per command: take parsed arguments, call rlvid.api, and return an exit code or None for 0."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import Console, Group

from rlvid import api
from rlvid.api import listing
from rlvid.cli import tables
from rlvid.cli.completion import script
from rlvid.errors import UserError
from rlvid.utils.console import print_main

NEXT_STEPS = (  # command, {} being the run's folder, and what it shows
    ("rlvid audit {}", "position bias, truncation, coherence"),
    ("rlvid compare {} OTHER_RUN", "question by question"),
    ("rlvid report {}", "intervals; given a folder of runs, their comparisons"),
)

BENCH_OPTIONS: dict[
    str, tuple[Any, tuple[str, ...]]
] = {  # option of `bench` -> default, and the benchmarks that read it
    "preset": ("", ("step", "sweep", "eval", "gpu")),
    "against": (["trl"], ("step",)),
    "needs": (["view_logps:patches"], ("step",)),
    "repeats": (5, ("step", "sweep", "eval", "decode")),
    "groups": (1, ("step", "sweep")),
    "lora_r": (0, ("step", "sweep", "eval")),
    "media": ("video", ("step", "sweep", "eval")),
    "parts": ([], ("gpu",)),
    "minutes": (10.0, ("gpu",)),
    "device": ("cuda", ("gpu",)),
}


def train(args: argparse.Namespace) -> None:
    """Train and evaluate, or with --plan only estimate the memory."""
    if args.plan is not None:
        api.estimate_memory(args.preset, args.overrides, args.plan)
        return
    folder = api.run_folder(args.preset, args.overrides, args.out)
    api.train(args.preset, args.overrides, args.out, args.resume)
    print_main(_next_steps(folder))


def config(args: argparse.Namespace) -> None:
    """Check a config and print it as TOML. Its id is a comment, so that the output is a valid preset."""
    checked = api.check_config(args.preset, args.overrides)
    print(f"# id: {checked.id}\n{checked.to_toml()}", end="")
    print("not checked: whether model, data and levels exist; rlvid train looks before it loads them", file=sys.stderr)


def evaluate(args: argparse.Namespace) -> None:
    """Evaluate a model and print its accuracy per level and domain."""
    folder = api.evaluation_folder(args.model, args.data, args.split, args.overrides, args.out)
    api.evaluate(args.model, args.data, args.split, args.overrides, args.out)
    scored_again = not (folder / "eval").is_dir()  # of samples/: there are no answers to audit or compare
    print_main(f"\nwrote       {folder}/samples" if scored_again else _next_steps(folder))


def probe(args: argparse.Namespace) -> int:
    """Print what a reward pays for; with --strict 1 if a block failed."""
    result = api.probe(
        args.reward,
        args.overrides,
        on=args.on,
        model=args.model,
        thresholds=args.threshold,
        weight=args.weight,
        timeout=args.timeout,
        json=args.json,
        groups=args.groups,
    )
    result.print()
    return int(args.strict and bool(result.failed))


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
    api.report(args.runs, plots=not args.no_plots, html=args.html, json=args.json, csv=args.csv, metric=args.metric)


def watch(args: argparse.Namespace) -> None:
    """Show the progress of runs."""
    api.watch(args.runs, args.every, args.once)


def audit(args: argparse.Namespace) -> None:
    """Print the audit of a run."""
    api.audit(args.run)


def replies(args: argparse.Namespace) -> None:
    """Count the kinds of replies of runs, and print what rewards pay for them."""
    api.replies(args.runs, args.kind, args.credit)


def compare(args: argparse.Namespace) -> None:
    """Print cases on which two runs differ."""
    api.compare(args.a, args.b, args.pattern, args.level, args.domain, args.where, args.limit, args.metric)


def attention(args: argparse.Namespace) -> None:
    """Draw where runs look in the frames while they write their replies."""
    api.attention(args.runs, args.sample, args.of, args.layers, args.heads, args.out)


def credit(args: argparse.Namespace) -> None:
    """Print a training step's completions coloured by what each token depended on and by its credit."""
    api.credit(args.run, args.sample, args.step, args.html)


def export(args: argparse.Namespace) -> None:
    """Write a Hugging Face folder, a task for lmms-eval, or both."""
    if not args.lmms_eval_task and not (args.run and args.folder):
        raise UserError("rlvid export needs a run and a folder, or --lmms-eval-task DIR")
    if not args.lmms_eval_task and (args.data or args.split):
        raise UserError(
            "rlvid export: --data and --split choose the questions of --lmms-eval-task DIR, which is not given"
        )
    if args.folder:
        api.export(args.run, args.folder)
        print(f"wrote {args.folder}")
    if args.lmms_eval_task:
        tasks = api.export_lmms_eval_task(args.lmms_eval_task, args.run, args.data, args.split)
        print(f"wrote {args.lmms_eval_task}: {', '.join(tasks)}")


def _next_steps(folder: Path) -> str:
    """Return the lines at the end of a run: where it is, and commands that read it."""
    commands = [(command.format(folder), text) for command, text in NEXT_STEPS]
    width = max(len(command) for command, _ in commands)
    lines = [f"{'next' if not i else '':<10}  {command:<{width}}  {text}" for i, (command, text) in enumerate(commands)]
    return "\n".join(["", f"done        {folder}", *lines])


def write_kitchen(args: argparse.Namespace) -> None:
    """Write the files of the embedded benchmark into a folder."""
    api.write_kitchen(args.folder, args.seed)
    print(f"wrote {args.folder}")


def write_kitchen_long(args: argparse.Namespace) -> None:
    """Write the embedded transfer benchmark."""
    api.write_kitchen_long(args.folder, args.seed)
    print(f"wrote {args.folder}")


def get_data(args: argparse.Namespace) -> None:
    """Download a published benchmark into a folder."""
    api.download_data(args.name, args.folder)


def check_data(args: argparse.Namespace) -> int:
    """Check a benchmark; the exit code is 2 if anything is wrong with it."""
    return 2 if api.check_data(args.name, args.against) else 0


def write_pairs(args: argparse.Namespace) -> None:
    """Write preference pairs from the samples of a run."""
    count = api.write_pairs(args.run, args.file)
    print(f"wrote {count} pairs to {args.file}")


def bench(args: argparse.Namespace) -> int:
    """Run a benchmark of speed and memory, and print its tables; the exit code of gpu is 1 if a check failed."""
    for option, (default, benches) in BENCH_OPTIONS.items():
        if args.what not in benches and getattr(args, option) != default:
            name = f"--{option.replace('_', '-')}"
            raise UserError(f"{name} has no effect on rlvid bench {args.what}: it is of {', '.join(benches)}")
    if args.what == "gpu":
        result = api.measure_gpu(args.device, args.preset, args.parts, args.minutes, args.out)
        return int(any(row["bar"] and row["status"] == "failed" for row in result["cases"]))
    preset = args.preset or "20m"
    api.measure_speed(
        args.what, preset, args.against, args.repeats, args.groups, args.lora_r, args.media, args.needs, args.out
    )
    return 0


def list_names(args: argparse.Namespace) -> None:
    """Print a list with one line for each name, or the page of one name; without a list, the names of all lists."""
    console = Console()
    if args.what is None:
        tables.print_in_full(console, tables.lists_table())
        hint = "rlvid list LIST"
    elif args.what == "config":
        keys = listing.find_config_keys(args.name)
        one_line_each = console.is_terminal and not args.name
        tables.print_in_full(console, tables.config_list(keys) if one_line_each else tables.config_page(keys))
        hint = "rlvid list config SECTION"
    elif args.name:
        for number, row in enumerate(api.list_names(args.what, args.name)):
            tables.print_in_full(console, Group(*[""] * (number > 0), tables.description_page(row)))
    else:
        rows = api.list_names(args.what)
        tables.print_in_full(console, tables.list_table(rows))
        hint = f"rlvid list {args.what} {rows[0].name}"
    if console.is_terminal and not args.name:
        console.print(f"\nall about one: {hint}", style="dim", highlight=False)


def completion(args: argparse.Namespace) -> None:
    """Print the lines that switch on completion."""
    print(script(args.shell))
