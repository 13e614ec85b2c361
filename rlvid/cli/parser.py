"""The commands of `rlvid` and their arguments, one function per command."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from rlvid import api
from rlvid.api.listing import LISTS
from rlvid.cli import commands, completion, study_parsers
from rlvid.cli.add_command import add_command, add_config, add_overrides
from rlvid.cli.hints import bench_hint, grid_hint
from rlvid.data.hub import DATASETS
from rlvid.errors import UserError
from rlvid.registry import suggest
from rlvid.utils.arguments import ArgumentParser
from rlvid.utils.renamed import renamed_hint


def parser() -> ArgumentParser:
    """Return the parser of the whole command line. `args.command(args)` runs the chosen command."""
    top = ArgumentParser(prog="rlvid", description="Reward models and RL algorithms for video reasoning.")
    top.add_argument("--version", action="version", version=f"rlvid {version('rlvid')}")
    top.add_argument("--traceback", action="store_true", help="show the whole traceback of an error; with any command")
    group = top.add_subparsers(required=True, metavar="COMMAND")
    for add in COMMANDS.values():
        add(group)
    return top


def check_command(arguments: Sequence[str]) -> None:
    """Raise UserError if the first argument is a word that is no command; options such as --help are not checked."""
    if not arguments:
        raise UserError(f"no command given. Known: {', '.join(COMMANDS)}. See rlvid --help")
    if arguments[0].startswith("-") or arguments[0] in COMMANDS:
        return
    hint = renamed_hint("command", arguments[0]) or f".{suggest(arguments[0], COMMANDS)}"
    raise UserError(f"no command {arguments[0]!r}{hint}")


def _train(group: Any) -> None:
    one = add_command(group, "train", commands.train, "train and evaluate, e.g. rlvid train nano algorithm=sft")
    add_config(one)
    one.add_argument("--out", metavar="DIR", help="run folder (default: runs/PRESET-ID)")
    one.add_argument("--resume", action="store_true", help="continue the run in that folder")
    plan = "only estimate the memory, on this machine or on the devices of an accelerate YAML file"
    one.add_argument("--plan", nargs="?", const="", metavar="YAML", help=plan)


def _config(group: Any) -> None:
    one = add_command(
        group, "config", commands.config, "check a config without a run, and print it with all defaults as TOML"
    )
    add_config(one)


def _eval(group: Any) -> None:
    one = add_command(group, "eval", commands.evaluate, "evaluate a run, a checkpoint, or any model's folder or hub id")
    one.add_argument("model", help="a run folder, a checkpoint, a model folder or a hub id")
    add_overrides(one, "eval.batch_size=8")
    one.add_argument("--data", help="benchmark, see `rlvid list benchmarks` (default: that of the run)")
    one.add_argument("--split", nargs="+", default=(), metavar="LEVEL", help="levels such as L1 L2 L3")
    one.add_argument("--out", metavar="DIR", help="folder for the results (default: runs/eval-NAME-ID)")


def _parity(group: Any) -> None:
    says = "check on a few prompts that trainer, sampler and published processor see the same; exit code 1 if not"
    one = add_command(group, "parity", commands.parity, says)
    one.add_argument("model", help="a run folder, a checkpoint, a model folder or a hub id")
    add_overrides(one, "video.max_frames=8")
    one.add_argument("--data", help="benchmark, see `rlvid list benchmarks` (default: that of the run)")


def _probe(group: Any) -> None:
    says = "find out what a reward pays for, before a run: values, information, groups of replies, tricks, the video"
    one = add_command(group, "probe", commands.probe, says)
    reward = "a name, ./file.py:f or module:f; also a reward_func of TRL and a compute_score of verl or EasyR1"
    completion.completed_by(one.add_argument("reward", help=reward), completion.rewards)
    options = "the reward's options such as sentences=2; with a dot, config keys such as judge.model=NAME"
    one.add_argument("overrides", nargs="*", default=[], metavar="key=value", help=options)
    on = "replies: a run folder with samples/, or a file of JSON lines (default: the shipped groups)"
    one.add_argument("--on", metavar="RUN|FILE", help=on)
    one.add_argument("--model", help="the policy that evidence is computed with (default: that of the run, or nano)")
    limits = "such as tricks.max_gain=0.2; `rlvid list thresholds` lists them"
    one.add_argument("--threshold", nargs="+", default=[], metavar="NAME=VALUE", help=limits)
    one.add_argument(
        "--weight", type=float, default=1.0, help="of the reward, beside accuracy with weight 1 (default: 1)"
    )
    one.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="time limit of one call (default: 30)"
    )
    one.add_argument("--json", metavar="FILE", help="also write the result as JSON")
    groups = "use at most N groups, evenly spaced, such as 24 for a slow judge (default: all; 24 if a policy is run)"
    one.add_argument("--groups", type=int, metavar="N", help=groups)
    one.add_argument("--strict", action="store_true", help="exit code 1 if a block failed, for CI")


def _grid(group: Any) -> None:
    one = add_command(
        group, "grid", commands.grid, "run an experiment: each arm with each seed (a cell); finished cells are skipped"
    )
    one.option_hint = grid_hint
    script = one.add_argument("script", help="a script such as experiments/quickstart.py")
    completion.completed_by(script, completion.scripts)
    rest = one.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        help="--preset, --jobs, --dry-run, --out ...: all are listed by `rlvid grid SCRIPT -h`",
    )
    rest.required = False  # it may be empty, but argparse would ask for it where the script is missing


def _tune(group: Any) -> None:
    one = add_command(
        group,
        "tune",
        commands.tune,
        "try settings for each arm of an experiment, and choose by accuracy on the level dev; resumable",
    )
    one.add_argument("script", help="a script whose grid names candidates, such as experiments/quickstart.py")
    one.add_argument("--preset", default="", help="what all trials start from (default: that of the grid)")
    one.add_argument("--jobs", type=int, metavar="N", help="trials run at a time (default: one per GPU, or 1)")
    one.add_argument("--out", metavar="DIR", help="folder of the trials (default: runs/tune-NAME-PRESET)")
    one.add_argument("--set", nargs="+", default=[], metavar="key=value", help="override config keys in all trials")


def _export(group: Any) -> None:
    one = add_command(
        group, "export", commands.export, "write the last checkpoint as a Hugging Face folder, LoRA merged"
    )
    one.add_argument("run", nargs="?", help="a run folder, a checkpoint, or an adapter")
    one.add_argument("folder", nargs="?", help="the folder to write")
    one.add_argument(
        "--lmms-eval-task",
        metavar="DIR",
        help="write a benchmark as a task for lmms-eval, instead of the model or beside it",
    )
    one.add_argument("--data", metavar="DIR", help="the benchmark of the task (default: that of the run)")
    one.add_argument("--split", nargs="+", default=(), help="levels of the task (default: those of the run)")


def _data(group: Any) -> None:
    data = add_command(group, "data", None, "write, download and check benchmarks")
    actions = data.add_subparsers(required=True, metavar="ACTION")

    one = add_command(actions, "kitchen", commands.write_kitchen, "write the embedded benchmark to disk")
    one.add_argument("folder")
    one.add_argument("--seed", type=int, default=0)

    one = add_command(
        actions, "kitchen_long", commands.write_kitchen_long, "write the embedded transfer benchmark to disk"
    )
    one.add_argument("folder")
    one.add_argument("--seed", type=int, default=0)

    one = add_command(actions, "get", commands.get_data, "download a published benchmark from the hub; resumable")
    one.add_argument("name", help=", ".join(DATASETS))
    one.add_argument("folder")

    one = add_command(
        actions, "check", commands.check_data, "read all records and decode all media; exit code 2 if any is bad"
    )
    one.add_argument("name", help="a folder, a TOML file, or an embedded benchmark: see `rlvid list benchmarks`")
    against = "other benchmarks, in which the training questions and clips of this one are searched for"
    one.add_argument("--against", nargs="+", default=(), metavar="BENCHMARK", help=against)

    one = add_command(
        actions, "pairs", commands.write_pairs, "write each group's best and worst completion of a run, for DPO"
    )
    one.add_argument("run", help="a run folder")
    one.add_argument("file", help="the JSONL file to write")


def _bench(group: Any) -> None:
    one = add_command(
        group,
        "bench",
        commands.bench,
        "measure the speed of steps (also of TRL), evaluation and decoding; gpu: check and measure a GPU",
    )
    what = f"{', '.join(api.BENCHES)} (default: step)"
    one.add_argument("what", nargs="?", default="step", choices=api.BENCHES, metavar="BENCHMARK", help=what)
    presets = (
        "random weights: 20m (a laptop), 2b or 7b (a GPU) of Qwen2-VL, or another family's, such as qwen3_vl_20m or "
        "qwen2_5_vl_7b; of gpu tiny, 2b or 7b (default: 20m; of gpu: 2b and 7b)"
    )
    one.add_argument("--preset", default="", help=presets)
    one.add_argument(
        "--against",
        nargs="*",
        default=["trl"],
        metavar="NAME",
        help="what a step is compared with: trl, views, rows, reference (default: trl)",
    )
    one.add_argument(
        "--needs",
        nargs="+",
        default=["view_logps:patches"],
        metavar="NEED",
        help="what `views` adds to a step, as an algorithm's `needs` (default: view_logps:patches)",
    )
    one.add_argument(
        "--repeats",
        type=int,
        default=5,
        help="measured steps of each implementation, after a warm-up step (default: 5)",
    )
    one.add_argument("--groups", type=int, default=1, help="groups of a step (default: 1)")
    one.add_argument("--lora-r", type=int, default=0, help="train a LoRA adapter of this rank instead of all weights")
    one.add_argument(
        "--media", default="video", help="video (16 frames and an image), or image (one, with as many tokens)"
    )
    parts = "of gpu: the parts to run, see `rlvid list parts` (default: all)"
    completion.completed_by(
        one.add_argument("--parts", nargs="*", default=[], metavar="NAME", help=parts), completion.parts
    )
    one.add_argument("--minutes", type=float, default=10.0, help="of gpu: its budget of time (default: 10)")
    one.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="of gpu; cpu tries the command itself")
    one.add_argument("--out", default="runs/bench", metavar="DIR", help="folder for the results (default: runs/bench)")
    one.option_hint = bench_hint


def _list(group: Any) -> None:
    one = add_command(group, "list", commands.list_names, "list what a config can name, and its keys")
    lists = sorted(["config", *LISTS])
    one.add_argument("what", nargs="?", choices=lists, metavar="LIST", help=", ".join(lists))
    help = "a name from the list, to print its fields, defaults, documentation and source; config: a section or a key"
    completion.completed_by(one.add_argument("name", nargs="?", default="", help=help), completion.listed_names)


def _completion(group: Any) -> None:
    one = add_command(group, "completion", commands.completion, "print the lines that switch on completion in a shell")
    one.add_argument("shell", choices=completion.SHELLS, metavar="SHELL", help=", ".join(completion.SHELLS))


COMMANDS: dict[str, Callable[[Any], None]] = {
    "train": _train,
    "eval": _eval,
    "probe": _probe,
    "parity": _parity,
    "grid": _grid,
    "tune": _tune,
    "report": study_parsers.add_report,
    "watch": study_parsers.add_watch,
    "audit": study_parsers.add_audit,
    "replies": study_parsers.add_replies,
    "compare": study_parsers.add_compare,
    "attention": study_parsers.add_attention,
    "credit": study_parsers.add_credit,
    "export": _export,
    "config": _config,
    "data": _data,
    "bench": _bench,
    "list": _list,
    "completion": _completion,
}
