"""The arguments of the commands that read finished runs, one function per command."""

from __future__ import annotations

from typing import Any

from rlvid.cli import commands
from rlvid.cli.add_command import add_command


def add_report(group: Any) -> None:
    """Add the command that prints tables, tests and pictures of runs, logs or counts."""
    one = add_command(
        group,
        "report",
        commands.report,
        "print tables, intervals and verdicts for a folder of runs, and draw its curves",
    )
    one.add_argument(
        "runs", help="a folder of runs, logs of lmms-eval or VLMEvalKit, or counts (experiments/published)"
    )
    one.add_argument("--no-plots", action="store_true", help="draw no figures")
    one.add_argument("--html", metavar="FILE", help="also write one page: figures, attention maps, cases with clips")
    one.add_argument("--json", metavar="FILE", help="also write the rows of all tables as JSON")
    one.add_argument(
        "--csv",
        metavar="FILE",
        help="also write the rows of all tables as one CSV file; its first column is the section",
    )
    one.add_argument("--metric", default="", metavar="NAME", help="the metric to read, of logs that have several")


def add_watch(group: Any) -> None:
    """Add the command that shows the progress of running runs."""
    one = add_command(
        group, "watch", commands.watch, "show the progress of a folder of runs: curves, remaining time, alarms"
    )
    one.add_argument("runs", help="a folder of runs")
    one.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="refresh interval (default: 2)")
    one.add_argument("--once", action="store_true", help="print once and exit")


def add_audit(group: Any) -> None:
    """Add the command that checks a run's answers."""
    one = add_command(
        group, "audit", commands.audit, "check the answers of a run for position bias, truncation, collapse, coherence"
    )
    one.add_argument("run", help="a run folder")


def add_replies(group: Any) -> None:
    """Add the command that counts kinds of sampled replies, and what rewards pay for them."""
    one = add_command(
        group,
        "replies",
        commands.replies,
        "count kinds of replies that a run samples, and print what each reward pays for a kind",
    )
    one.add_argument("runs", nargs="+", metavar="RUN")
    one.add_argument(
        "--kind",
        nargs="+",
        required=True,
        metavar="NAME=REGEX",
        help="such as habit='It begins with' looking='went in'; the other kinds are compared with the first",
    )
    one.add_argument(
        "--credit",
        nargs="+",
        default=(),
        metavar="ALGORITHM",
        help="such as grpo pass_at_k:k=2: also print how much credit each algorithm would give each kind",
    )


def add_compare(group: Any) -> None:
    """Add the command that shows two runs' completions side by side."""
    one = add_command(group, "compare", commands.compare, "show the questions on which two runs differ, side by side")
    one.add_argument("a", help="a run folder, or logs of lmms-eval or VLMEvalKit")
    one.add_argument("b", help="another one")
    pattern = (
        "'a wrong, b right', 'a right, b wrong', 'both right', 'both wrong', 'same wrong answer', 'b malformed', "
        "'b right, incoherent' or 'b wrong, coherent'; no value: all (default: one run is right and the other wrong)"
    )
    one.add_argument("--pattern", nargs="*", help=pattern)
    one.add_argument("--level", nargs="+", default=(), help="levels such as L2 L3")
    one.add_argument("--domain", nargs="+", default=(), help="domains of the benchmark")
    one.add_argument(
        "--where",
        nargs="+",
        default=(),
        metavar="CONDITION",
        help="only cases in which b meets all of these: 'length>40' 'format=1'",
    )
    one.add_argument("--limit", type=int, default=5, help="number of cases shown (default: 5)")
    one.add_argument("--metric", default="", metavar="NAME", help="the metric to read, of logs that have several")


def add_attention(group: Any) -> None:
    """Add the command that draws where models attend."""
    one = add_command(
        group, "attention", commands.attention, "draw where models attend while they write a completion, over frames"
    )
    one.add_argument("runs", nargs="+", metavar="RUN")
    one.add_argument("--sample", required=True, help="a question, ID or LEVEL/ID, as in `rlvid compare`")
    one.add_argument("--of", default="reasoning", metavar="PART", help="reasoning, answer, reply, or a word of it")
    one.add_argument("--layers", nargs="+", type=int, default=(), help="layers, counted from 0 (default: all)")
    one.add_argument("--heads", nargs="+", type=int, default=(), help="heads, counted from 0 (default: all)")
    one.add_argument("--out", metavar="DIR", help="(default: RUN/attention/ID)")


def add_credit(group: Any) -> None:
    """Add the command that prints what each token depended on, and its credit."""
    one = add_command(
        group,
        "credit",
        commands.credit,
        "print each token's credit and what it depended on, recomputed with the last checkpoint",
    )
    one.add_argument("run", help="a run folder with training steps")
    one.add_argument("--sample", default="", help="a prompt's id (default: the first one with differing rewards)")
    one.add_argument("--step", type=int, default=0, help="a step of the run (default: the last one)")
    one.add_argument("--html", metavar="FILE", help="also write a page")
