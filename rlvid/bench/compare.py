"""The benchmarks themselves: contestants take turns in processes of their own, and ratios are of one run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import IO, Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from rlvid.bench.workload import Shape, write_model
from rlvid.errors import UserError
from rlvid.registry import suggest
from rlvid.utils.files import write_text

NAMES = ("ours", "rows", "reference", "trl")
HOME = Path("runs") / "bench"
SWEEPS: dict[str, tuple[int, ...]] = {
    "generations": (4, 8, 16, 32),
    "prompt": (1024, 4096, 16384),
    "completion": (64, 256, 1024),
}


LABELS = {"generations": "completions of a prompt", "prompt": "prompt tokens", "completion": "completion tokens"}


class Contestant:
    """A process that takes a step when told to."""

    def __init__(self, name: str, folder: Path, shape: Shape, log: Path) -> None:
        self.name, self.turns, self.peak, self.tokens = name, list[dict[str, float]](), 0, 0
        self.log = log.open("w")
        command = [
            sys.executable,
            "-P",
            "-m",
            "rlvid.bench.implementations",
            name,
            str(folder),
            json.dumps(asdict(shape)),
        ]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, bufsize=1
        )

    def turn(self) -> dict[str, float]:
        """Have it take a step; seconds of each phase and of the whole `step`."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin and stdout
        try:
            print("step", file=stdin, flush=True)
            reply: dict[str, Any] = json.loads(stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError) as error:
            raise UserError(f"contestant {self.name!r} ended: {last_line(self.log)} ({self.log.name})") from error
        self.turns.append(reply["seconds"])
        self.peak, self.tokens = reply["peak"], reply["tokens"]
        return reply["seconds"]

    def end(self) -> None:
        """Let it go."""
        self.process.kill()
        self.process.wait()
        self.log.close()


def step(shape: Shape, names: Sequence[str], pairs: int, out: Path, together: bool = True) -> dict[str, Any]:
    """Whole optimiser steps of each contestant in turn, after one to warm up; medians, and ratios of the same turn.

    `together`: all stay loaded and alternate; else, where a GPU cannot hold them all, one after the other.
    """
    for name in names:
        if name not in NAMES:
            raise UserError(f"no contestant {name!r}.{suggest(name, NAMES)}")
    folder, found = write_model(shape.model, HOME / "models" / shape.model), list[Contestant]()
    out.mkdir(parents=True, exist_ok=True)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("bench", total=len(names) * (pairs + 1))
        for group in [list(names)] if together else [[name] for name in names]:
            running = [Contestant(name, folder, shape, out / f"{name}.log") for name in group]
            try:
                for turn in range(pairs + 1):
                    for contestant in running:
                        progress.update(task, description=f"{contestant.name}, step {turn} of {pairs}")
                        contestant.turn()
                        progress.advance(task)
            finally:
                for contestant in running:
                    contestant.end()
            found += running
    result = {
        "shape": asdict(shape),
        "contestants": {c.name: {"turns": c.turns[1:], "peak_gb": c.peak / 1e9, "tokens": c.tokens} for c in found},
    }
    write_text(out / f"step-{shape.model}.json", json.dumps(result, indent=1))
    return result


def sweep(shape: Shape, pairs: int, out: Path) -> dict[str, Any]:
    """Our own step against the number of completions, the prompt's length and the completions' length."""
    found: dict[str, Any] = {}
    for axis, sizes in SWEEPS.items():
        found[axis] = {}
        for size in sizes:
            sizes_there: dict[str, Any] = {axis: size}
            if axis == "prompt":  # as many frames as fill it: two of them are 81 tokens
                sizes_there["frames"] = (size - 200) // 81 * 2 - 2
            at = replace(shape, **sizes_there)
            found[axis][size] = step(at, ["ours"], pairs, out / f"{axis}-{size}")["contestants"]["ours"]
    write_text(out / f"sweep-{shape.model}.json", json.dumps(found, indent=1))
    return found


def table(result: dict[str, Any]) -> Table:
    """Medians and their range, the ratio to ours turn by turn, peak memory, and where ours spends its time."""
    contestants = result["contestants"]
    shown = Table(
        "contestant", "s a step", "range", "times ours", "peak GB", "times ours", box=None, padding=(0, 2, 0, 0)
    )
    ours = contestants.get("ours") or next(iter(contestants.values()))
    for name, one in contestants.items():
        seconds = [turn["step"] for turn in one["turns"]]
        ratio = median(a / b["step"] for a, b in zip(seconds, ours["turns"], strict=True))
        span = f"{min(seconds):.2f} to {max(seconds):.2f}"
        memory = one["peak_gb"] / ours["peak_gb"]
        shown.add_row(name, f"{median(seconds):.2f}", span, f"{ratio:.2f}", f"{one['peak_gb']:.2f}", f"{memory:.2f}")
    return shown


def phases(result: dict[str, Any]) -> Table:
    """Median seconds of each phase of the contestants that tell."""
    contestants = {n: c for n, c in result["contestants"].items() if len(c["turns"][0]) > 1}
    names = list(dict.fromkeys(phase for c in contestants.values() for phase in c["turns"][0]))
    shown = Table("median seconds", *names, box=None, padding=(0, 2, 0, 0))
    for name, one in contestants.items():
        shown.add_row(name, *(f"{median(t.get(phase, 0.0) for t in one['turns']):.2f}" for phase in names))
    return shown


def swept(found: dict[str, Any]) -> Table:
    """Median seconds of a sweep's steps."""
    shown = Table("axis", "size", "generate", "reference", "learn", "step", "peak GB", box=None, padding=(0, 2, 0, 0))
    for axis, sizes in found.items():
        for size, one in sizes.items():
            parts = (
                f"{median(t[phase] for t in one['turns']):.2f}" for phase in ("generate", "reference", "learn", "step")
            )
            shown.add_row(axis, str(size), *parts, f"{one['peak_gb']:.2f}")
    return shown


def draw(found: dict[str, Any], path: Path) -> Path:
    """A sweep's seconds in learning, reference and generation against each axis, both scales logarithmic."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    for panel, (axis, sizes) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
        for phase in ("generate", "reference", "learn"):
            seconds = [median(turn[phase] for turn in one["turns"]) for one in sizes.values()]
            panel.plot([int(size) for size in sizes], seconds, marker="o", label=phase)
        panel.set(title=LABELS[axis], xscale="log", yscale="log", ylabel="seconds a step")
        panel.set_xticks([int(size) for size in sizes], list(map(str, sizes)), minor=False)
        panel.tick_params(axis="x", which="minor", labelbottom=False)
    panel.legend(frameon=False)
    figure.savefig(path, dpi=120)
    return path


def last_line(log: IO[str]) -> str:
    """What a process said last."""
    log.flush()
    lines = [line for line in Path(log.name).read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
