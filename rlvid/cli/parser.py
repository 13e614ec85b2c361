"""The commands of `rlvid` and their arguments, one function per command."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from rlvid import api
from rlvid.cli import commands
from rlvid.cli.listing import LISTS
from rlvid.errors import UserError
from rlvid.registry import suggest
from rlvid.utils.renamed import renamed_hint


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line. `args.command(args)` runs the chosen command."""
    top = argparse.ArgumentParser(prog="rlvid", description="Reward models and RL algorithms for video reasoning.")
    top.add_argument("--traceback", action="store_true", help="show the whole traceback of an error; with any command")
    group = top.add_subparsers(required=True, metavar="COMMAND")
    for add_command in COMMANDS.values():
        add_command(group)
    return top


def check_command(arguments: Sequence[str]) -> None:
    """Raise UserError if the first argument is a word that is no command; options such as --help are not checked."""
    if not arguments or arguments[0].startswith("-") or arguments[0] in COMMANDS:
        return
    hint = renamed_hint("command", arguments[0]) or f".{suggest(arguments[0], COMMANDS)}"
    raise UserError(f"no command {arguments[0]!r}{hint}")


def _train(group: Any) -> None:
    one = _add(group, "train", commands.train, "train and evaluate, e.g. rlvid train nano algorithm=sft")
    _add_config(one)
    one.add_argument("--out", metavar="DIR", help="run folder (default: runs/PRESET-ID)")
    one.add_argument("--resume", action="store_true", help="continue the run in that folder")
    plan = "only estimate the memory, on this machine or on the devices of an accelerate YAML file"
    one.add_argument("--plan", nargs="?", const="", metavar="YAML", help=plan)


def _config(group: Any) -> None:
    one = _add(group, "config", commands.config, "check a config without a run, and print it with all defaults as TOML")
    _add_config(one)


def _eval(group: Any) -> None:
    one = _add(group, "eval", commands.evaluate, "evaluate a run, a checkpoint, or any model's folder or hub id")
    one.add_argument("model", help="a run folder, a checkpoint, a model folder or a hub id")
    one.add_argument("overrides", nargs="*", metavar="key=value", help="TOML assignments such as eval.batch_size=8")
    one.add_argument("--data", help="benchmark, see `rlvid list benchmarks` (default: that of the run)")
    one.add_argument("--split", nargs="+", default=(), metavar="LEVEL", help="levels such as L1 L2 L3")
    one.add_argument("--out", metavar="DIR", help="folder for the results (default: runs/eval-NAME-ID)")


def _parity(group: Any) -> None:
    says = "compare what trainer, sampler and published processor see of a few prompts of each kind"
    one = _add(group, "parity", commands.parity, says)
    one.add_argument("model", help="a run folder, a checkpoint, a model folder or a hub id")
    one.add_argument("overrides", nargs="*", metavar="key=value", help="TOML assignments such as video.max_frames=8")
    one.add_argument("--data", help="benchmark, see `rlvid list benchmarks` (default: that of the run)")


def _grid(group: Any) -> None:
    one = _add(group, "grid", commands.grid, "run all cells of an experiment; finished cells are skipped")
    one.add_argument("script", help="a script such as experiments/quickstart.py")
    one.add_argument(
        "arguments", nargs=argparse.REMAINDER, help="--preset, --jobs, --dry-run, --out ...: see `rlvid grid SCRIPT -h`"
    )


def _tune(group: Any) -> None:
    one = _add(
        group,
        "tune",
        commands.tune,
        "try settings for each arm of an experiment, and choose on the level dev; resumable",
    )
    one.add_argument("script", help="a script whose grid names candidates, such as experiments/quickstart.py")
    one.add_argument("--preset", default="", help="what all trials start from (default: that of the grid)")
    one.add_argument("--jobs", type=int, metavar="N", help="trials run at a time (default: one per GPU, or 1)")
    one.add_argument("--out", metavar="DIR", help="folder of the trials (default: runs/tune-NAME-PRESET)")
    one.add_argument(
        "--set", action="append", default=[], metavar="key=value", help="override a config key in all trials"
    )


def _report(group: Any) -> None:
    one = _add(group, "report", commands.report, "print tables and tests for a folder of runs, and draw its curves")
    one.add_argument("runs", help="a folder of runs, or published counts such as experiments/paper_counts.toml")
    one.add_argument("--no-plots", action="store_true", help="draw no figures")
    one.add_argument("--html", metavar="FILE", help="also write one page: figures, attention maps, cases with clips")
    one.add_argument("--json", metavar="FILE", help="also write the rows of all tables as JSON")
    one.add_argument("--csv", metavar="FILE", help="also write them as one CSV table; its first column is the section")


def _watch(group: Any) -> None:
    one = _add(group, "watch", commands.watch, "show the progress of a folder of runs: curves, remaining time, alarms")
    one.add_argument("runs", help="a folder of runs")
    one.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="refresh interval (default: 2)")
    one.add_argument("--once", action="store_true", help="print once and exit")


def _audit(group: Any) -> None:
    one = _add(
        group, "audit", commands.audit, "check the answers of a run for position bias, truncation, collapse, coherence"
    )
    one.add_argument("run", help="a run folder")


def _compare(group: Any) -> None:
    one = _add(group, "compare", commands.compare, "show the questions on which two runs differ, side by side")
    one.add_argument("a", help="a run folder")
    one.add_argument("b", help="another run folder")
    one.add_argument("--pattern", nargs="*", default=["a wrong, b right"], help="as in the table; no value: all")
    one.add_argument("--level", nargs="+", default=(), help="levels such as L2 L3")
    one.add_argument("--domain", nargs="+", default=(), help="domains of the benchmark")
    one.add_argument(
        "--where", nargs="+", default=(), metavar="CONDITION", help="b meets all of these: 'length>40' 'format=1'"
    )
    one.add_argument("--limit", type=int, default=5, help="number of cases shown (default: 5)")


def _attention(group: Any) -> None:
    one = _add(
        group, "attention", commands.attention, "draw where models attend while they write a completion, over frames"
    )
    one.add_argument("runs", nargs="+", metavar="RUN")
    one.add_argument("--sample", required=True, help="a question, ID or LEVEL/ID, as in `rlvid compare`")
    one.add_argument("--of", default="reasoning", metavar="PART", help="reasoning, answer, reply, or a word of it")
    one.add_argument("--layers", nargs="+", type=int, default=(), help="layers, counted from 0 (default: all)")
    one.add_argument("--heads", nargs="+", type=int, default=(), help="heads, counted from 0 (default: all)")
    one.add_argument("--out", metavar="DIR", help="(default: RUN/attention/ID)")


def _export(group: Any) -> None:
    one = _add(group, "export", commands.export, "write the last checkpoint as a Hugging Face folder, LoRA merged")
    one.add_argument("run", help="a run folder, a checkpoint, or an adapter")
    one.add_argument("folder", help="the folder to write")


def _data(group: Any) -> None:
    data = _add(group, "data", None, "write, download and check benchmarks")
    actions = data.add_subparsers(required=True, metavar="ACTION")

    one = _add(actions, "kitchen", commands.write_kitchen, "write the embedded benchmark to disk")
    one.add_argument("folder")
    one.add_argument("--seed", type=int, default=0)

    one = _add(actions, "kitchen_long", commands.write_kitchen_long, "write the embedded transfer benchmark to disk")
    one.add_argument("folder")
    one.add_argument("--seed", type=int, default=0)

    one = _add(actions, "get", commands.get_data, "download a published benchmark from the hub; resumable")
    one.add_argument("name", help="seed_bench_r1, longvideobench, mvbench, tempcompass, mmvu or video_mme")
    one.add_argument("folder")

    one = _add(
        actions, "check", commands.check_data, "read all records and decode all media; exit code 2 if any is bad"
    )
    one.add_argument("name", help="a folder, a TOML file, or an embedded benchmark: see `rlvid list benchmarks`")

    one = _add(actions, "pairs", commands.write_pairs, "write each group's best and worst completion of a run, for DPO")
    one.add_argument("run", help="a run folder")
    one.add_argument("file", help="the JSONL file to write")


def _bench(group: Any) -> None:
    one = _add(
        group, "bench", commands.bench, "measure seconds and memory of steps, beside TRL; also answering and decoding"
    )
    one.add_argument("what", nargs="?", default="step", choices=api.BENCHES, help="(default: step)")
    one.add_argument("--preset", default="20m", help="20m (a laptop), 2b or 7b (a GPU; random weights)")
    one.add_argument("--against", nargs="*", default=["trl"], metavar="NAME", help="some of trl, rows, reference")
    one.add_argument("--pairs", type=int, default=5, help="measured steps of each, after a warm-up step (default: 5)")
    one.add_argument("--groups", type=int, default=1, help="groups of a step (default: 1)")
    one.add_argument("--lora-r", type=int, default=0, help="train a LoRA adapter of this rank instead of all weights")
    one.add_argument(
        "--seen", default="video", help="video (16 frames and an image), or image (one, with as many tokens)"
    )
    one.add_argument("--out", default="runs/bench", metavar="DIR")


def _list(group: Any) -> None:
    one = _add(group, "list", commands.list_names, "list what a config can name, and its keys")
    one.add_argument("what", choices=sorted(["config", *LISTS]))
    one.add_argument("section", nargs="?", default="", help="with config: only the keys of a section, such as train")


COMMANDS: dict[str, Callable[[Any], None]] = {
    "train": _train,
    "eval": _eval,
    "parity": _parity,
    "grid": _grid,
    "tune": _tune,
    "report": _report,
    "watch": _watch,
    "audit": _audit,
    "compare": _compare,
    "attention": _attention,
    "export": _export,
    "config": _config,
    "data": _data,
    "bench": _bench,
    "list": _list,
}


def _add(
    group: Any, name: str, run: Callable[[argparse.Namespace], int | None] | None, description: str
) -> argparse.ArgumentParser:
    one = group.add_parser(name, help=description, description=description)
    one.set_defaults(command=run)
    return one


def _add_config(one: argparse.ArgumentParser) -> None:
    one.add_argument("preset", help="a TOML file, or a name from `rlvid list presets`")
    one.add_argument("overrides", nargs="*", metavar="key=value", help="TOML assignments such as train.max_steps=10")
