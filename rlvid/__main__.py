"""The command line: `rlvid VERB`, one function per verb.

Exit codes: 0 done; 2 the input is wrong, and one line says what, where and how to mend it; 1 a fault of ours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rlvid import api
from rlvid.cli import listing
from rlvid.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and call its verb; returns the exit code."""
    args = parser().parse_args(argv)
    try:
        return args.verb(args) or 0
    except UserError as error:
        print(f"rlvid: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rlvid: interrupted; the same command with --resume goes on", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The verbs and their arguments."""
    top = argparse.ArgumentParser(prog="rlvid", description="Reward models and RL algorithms for video reasoning.")
    verb = top.add_subparsers(required=True, metavar="VERB")

    one = _verb(verb, "train", train, "train as a preset says, e.g. rlvid train nano algorithm=sft train.max_steps=10")
    one.add_argument("preset", help="a TOML file, or a name from `rlvid list presets`")
    one.add_argument("overrides", nargs="*", metavar="key=value", help="TOML assignments such as train.max_steps=10")
    one.add_argument("--out", help="the run's folder (default: runs/PRESET-ID)")
    one.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    about = "only count the memory that it takes, here or on the devices of an accelerate YAML"
    one.add_argument("--plan", nargs="?", const="", metavar="YAML", help=about)

    one = _verb(verb, "eval", evaluate, "evaluate a run, a checkpoint, or any Qwen2-VL folder or hub id")
    one.add_argument("model")
    one.add_argument("overrides", nargs="*", metavar="key=value", help="TOML assignments such as eval.batch_size=8")
    one.add_argument("--data", help="a benchmark, as `rlvid list benchmarks` has them (default: the run's own)")
    one.add_argument("--split", nargs="+", default=(), metavar="LEVEL", help="levels such as L1 L2 L3")
    one.add_argument("--out", help="where the evaluation is kept (default: runs/eval-NAME-ID)")

    one = _verb(verb, "grid", grid, "run an experiment: every cell of its grid, resumable")
    one.add_argument("script", help="such as experiments/quickstart.py")
    one.add_argument("arguments", nargs=argparse.REMAINDER, help="--preset, --jobs, --dry-run, --out: see its --help")

    one = _verb(verb, "report", report, "the table, the verdicts and the curves of a folder of runs")
    one.add_argument("runs", help="a folder; or published counts, such as experiments/paper_counts.toml")
    one.add_argument("--no-plots", action="store_true", help="only the tables")
    one.add_argument("--html", metavar="FILE", help="also one page: pictures, attention, cases with clips")

    one = _verb(verb, "watch", watch, "a folder of runs as they go: progress, time left, courses, alarms")
    one.add_argument("runs")
    one.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="between two looks (default: 2)")
    one.add_argument("--once", action="store_true", help="look once")

    one = _verb(verb, "audit", audit, "what a run's answers are made of: bias, truncation, collapse, coherence, views")
    one.add_argument("run")

    one = _verb(verb, "cases", cases, "questions that one run gets right and another wrong, side by side")
    one.add_argument("a")
    one.add_argument("b")
    one.add_argument("--pattern", nargs="*", default=["a wrong, b right"], help="as in the table; none given: all")
    one.add_argument("--level", nargs="+", default=(), help="such as L2 L3")
    one.add_argument("--domain", nargs="+", default=())
    one.add_argument("--where", nargs="+", default=(), metavar="CONDITION", help="of b, all: 'length>40' 'format=1'")
    one.add_argument("--limit", type=int, default=5, help="how many are shown (default: 5)")

    one = _verb(verb, "attend", attend, "where runs look while they write a reply: heat over frames, side by side")
    one.add_argument("runs", nargs="+", metavar="RUN")
    one.add_argument("--sample", required=True, help="a question: ID or LEVEL/ID, as in `rlvid cases`")
    one.add_argument("--of", default="reasoning", metavar="WHAT", help="reasoning, answer, reply, or a word of it")
    one.add_argument("--layers", nargs="+", type=int, default=(), help="counted from 0 (default: all)")
    one.add_argument("--heads", nargs="+", type=int, default=(), help="counted from 0 (default: all)")
    one.add_argument("--out", help="(default: RUN/attention/ID)")

    one = _verb(verb, "export", export, "a run's last checkpoint as a plain Hugging Face folder, LoRA folded in")
    one.add_argument("run", help="a run's folder, a checkpoint, or an adapter")
    one.add_argument("folder")

    data = _verb(verb, "data", None, "write and check benchmarks").add_subparsers(required=True, metavar="WHAT")
    one = _verb(data, "kitchen", kitchen, "write the embedded benchmark to disk")
    one.add_argument("folder")
    one.add_argument("--seed", type=int, default=0)

    one = _verb(data, "kitchen_long", kitchen_long, "write the embedded benchmark for transfer to disk")
    one.add_argument("folder")
    one.add_argument("--seed", type=int, default=0)

    one = _verb(data, "get", get, "fetch a published benchmark from the hub; resumable")
    one.add_argument("name", help="seed_bench_r1, longvideobench, mvbench, tempcompass, mmvu or video_mme")
    one.add_argument("folder")

    one = _verb(data, "check", check, "read all records and decode all media of a benchmark; exit code 2 if any is bad")
    one.add_argument("name", help="a folder, a TOML file, or an embedded benchmark: see `rlvid list benchmarks`")

    one = _verb(data, "pairs", pairs, "preferences from a run's samples: each group's best against its worst, for DPO")
    one.add_argument("run")
    one.add_argument("file")

    one = _verb(
        verb,
        "bench",
        bench,
        "steps of rlvid and of others in turn: seconds and memory; also answering, decoding",
    )
    one.add_argument("what", nargs="?", default="step", choices=api.BENCHES, help="(default: step)")
    one.add_argument("--preset", default="20m", help="20m (a laptop), 2b or 7b (a GPU; random weights)")
    one.add_argument("--against", nargs="*", default=["trl"], metavar="NAME", help="of trl, rows, reference")
    one.add_argument("--pairs", type=int, default=5, help="turns each, after one to warm up (default: 5)")
    one.add_argument("--groups", type=int, default=1, help="groups a step (default: 1)")
    one.add_argument("--lora-r", type=int, default=0, help="train a LoRA adapter of this rank instead of all weights")
    one.add_argument("--seen", default="video", help="video: sixteen frames and an image; or one image, as many tokens")
    one.add_argument("--out", default="runs/bench")

    one = _verb(verb, "list", show, "what can be named in a config")
    one.add_argument("what", choices=sorted(LISTS))
    return top


def train(args: argparse.Namespace) -> None:
    """Train, and evaluate at the end."""
    if args.plan is not None:
        return api.plan(args.preset, args.overrides, args.plan)
    api.train(args.preset, args.overrides, args.out, args.resume)


def evaluate(args: argparse.Namespace) -> None:
    """Evaluate, and print each level's and domain's accuracy."""
    api.evaluate(args.model, args.data, args.split, args.overrides, args.out)


def grid(args: argparse.Namespace) -> int:
    """Run a grid."""
    return api.grid(args.script, args.arguments)


def report(args: argparse.Namespace) -> None:
    """Print a report."""
    api.report(args.runs, plots=not args.no_plots, html=args.html)


def watch(args: argparse.Namespace) -> None:
    """Watch runs."""
    api.watch(args.runs, args.every, args.once)


def audit(args: argparse.Namespace) -> None:
    """Print an audit."""
    api.audit(args.run)


def cases(args: argparse.Namespace) -> None:
    """Print cases."""
    api.compare(args.a, args.b, args.pattern, args.level, args.domain, args.where, args.limit)


def attend(args: argparse.Namespace) -> None:
    """Draw attention."""
    api.attention(args.runs, args.sample, args.of, args.layers, args.heads, args.out)


def export(args: argparse.Namespace) -> None:
    """Write a plain Hugging Face folder."""
    api.export(args.run, args.folder)
    Console().print(f"wrote {args.folder}")


def kitchen(args: argparse.Namespace) -> None:
    """Write the embedded benchmark."""
    from rlvid.data.kitchen import write

    write(Path(args.folder), args.seed)
    Console().print(f"wrote {args.folder}")


def kitchen_long(args: argparse.Namespace) -> None:
    """Write the embedded benchmark for transfer."""
    from rlvid.data.kitchen_long import write

    write(Path(args.folder), args.seed)
    Console().print(f"wrote {args.folder}")


def get(args: argparse.Namespace) -> None:
    """Fetch a published benchmark."""
    from rlvid.data.hub import get

    get(args.name, Path(args.folder))


def check(args: argparse.Namespace) -> int:
    """Check a benchmark."""
    from rlvid.data.check import check

    return 2 if check(args.name) else 0


def pairs(args: argparse.Namespace) -> None:
    """Write preferences."""
    from rlvid.data.preferences import from_samples

    Console().print(f"wrote {from_samples(Path(args.run), Path(args.file))} pairs to {args.file}")


def bench(args: argparse.Namespace) -> None:
    """Run a benchmark and print its tables."""
    api.bench(args.what, args.preset, args.against, args.pairs, args.groups, args.lora_r, args.seen, args.out)


def show(args: argparse.Namespace) -> None:
    """Print one of the lists: a table as wide as the terminal, or a line for each row where there is none."""
    rows = LISTS[args.what]()
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("name", "what it is", "fields", "where"):
        if heading != "fields" or any(r.fields for r in rows):
            table.add_column(heading, overflow="fold", no_wrap=heading == "name")
    for row in rows:
        fields = ["  ".join(f"{k}={v}" for k, v in row.fields.items())] if any(r.fields for r in rows) else []
        table.add_row(row.name, row.says, *fields, row.where)
    Console(width=None if sys.stdout.isatty() else 100_000).print(table)


def _views() -> list[listing.Description]:
    from rlvid.video.views import VIEWS

    return listing.list_functions(VIEWS)


LISTS = {
    "rewards": lambda: listing.list_plugins("rewards"),
    "algorithms": lambda: listing.list_plugins("algorithms"),
    "presets": listing.list_presets,
    "benchmarks": listing.list_benchmarks,
    "noise": listing.list_noises,
    "views": _views,
}


def _verb(
    group: Any, name: str, function: Callable[[argparse.Namespace], int | None] | None, about: str
) -> argparse.ArgumentParser:
    one = group.add_parser(name, help=about, description=about)
    one.set_defaults(verb=function)
    return one


if __name__ == "__main__":
    raise SystemExit(main())
