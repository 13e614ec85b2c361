"""Time optimizer steps of several implementations on one workload, in turn, each in a process of its own.

Ratios are taken within a turn, so that other load on the machine affects both sides alike.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from rlvid.bench.workload import IMPLEMENTATIONS, MODEL_SIZES, Workload, write_random_model
from rlvid.errors import UserError
from rlvid.registry import suggest
from rlvid.utils.files import write_text

OUTPUT_FOLDER = Path("runs") / "bench"
SWEEPS: dict[str, tuple[int, ...]] = {  # field of Workload -> its values
    "num_generations": (4, 8, 16, 32),
    "prompt_tokens": (1024, 4096, 16384),
    "completion_tokens": (64, 256, 1024),
}
AXIS_LABELS = {
    "num_generations": "completions per prompt",
    "prompt_tokens": "prompt tokens",
    "completion_tokens": "completion tokens",
}
SWEEP_PHASES = ("generate", "reference", "learn")


class Worker:
    """A process that runs one implementation, and the measurements of its steps.

    Attributes:
        seconds: one entry per step: phase -> seconds, "step" being the whole step.
        cpu: CPU-seconds of the process at its start and after each step.
        peak: peak memory so far, in bytes.
        tokens: tokens of the last step.
    """

    def __init__(self, name: str, model_folder: Path, workload: Workload, log: Path) -> None:
        self.name = name
        self.seconds: list[dict[str, float]] = []
        self.cpu: list[float] = [0.0]
        self.peak = 0
        self.tokens = 0
        self.log = log.open("w")
        module = "rlvid.bench.implementations"
        command = [sys.executable, "-P", "-m", module, name, str(model_folder), json.dumps(asdict(workload))]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, bufsize=1
        )

    def step(self) -> None:
        """Run one optimizer step and record its measurements.

        Raises:
            UserError: if the process ended, with the last line of its log.
        """
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin and stdout
        try:
            print("step", file=stdin, flush=True)
            measured: dict[str, Any] = json.loads(stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError) as error:
            raise UserError(f"implementation {self.name!r} ended: {self._last_log_line()} ({self.log.name})") from error
        self.seconds.append(measured["seconds"])
        self.cpu.append(measured["cpu"])
        self.peak, self.tokens = measured["peak"], measured["tokens"]

    def stop(self) -> None:
        """End the process and close its log."""
        self.process.kill()
        self.process.wait()
        self.log.close()

    def _last_log_line(self) -> str:
        self.log.flush()
        text = Path(self.log.name).read_text(errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else "its log is empty"


def compare_steps(
    workload: Workload, names: Sequence[str], repeats: int, out: Path, in_parallel: bool = True
) -> dict[str, Any]:
    """Time `repeats` optimizer steps of each implementation, after one step to warm up.

    Args:
        workload: the size of a step.
        names: implementations, of `IMPLEMENTATIONS`.
        repeats: measured steps of each.
        out: the folder for logs and for the result, as step-MODEL.json.
        in_parallel: keep all implementations loaded and take their steps in turn. Otherwise they run one after the
            other, for a GPU that cannot hold them all.

    Returns:
        "workload", and "implementations": name -> {"turns": seconds by phase of each step, "cpu": CPU-seconds of each
        step, "peak_gb", "tokens"}.

    Raises:
        UserError: for an unknown implementation or model, one that TRL is not measured with, and if a process ends.
    """
    for name in names:
        if name not in IMPLEMENTATIONS:
            raise UserError(f"no implementation {name!r}.{suggest(name, IMPLEMENTATIONS)}")
    if "trl" in names and workload.model not in MODEL_SIZES:
        raise UserError(
            f"TRL's trainer is measured with Qwen2-VL only, in the sizes {', '.join(MODEL_SIZES)}: with "
            f"{workload.model} leave trl out, as in --against rows reference"
        )
    model_folder = write_random_model(workload.model, OUTPUT_FOLDER / "models" / workload.model)
    out.mkdir(parents=True, exist_ok=True)
    finished: list[Worker] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("bench", total=len(names) * (repeats + 1))
        for batch in [list(names)] if in_parallel else [[name] for name in names]:
            workers = [Worker(name, model_folder, workload, out / f"{name}.log") for name in batch]
            try:
                _take_turns(workers, repeats, progress, task)
            finally:
                for worker in workers:
                    worker.stop()
            finished += workers

    result = {
        "workload": asdict(workload),
        "implementations": {
            worker.name: {
                "turns": worker.seconds[1:],
                "cpu": [after - before for before, after in pairwise(worker.cpu[1:])],
                "peak_gb": worker.peak / 1e9,
                "tokens": worker.tokens,
            }
            for worker in finished
        },
    }
    write_text(out / f"step-{workload.model}.json", json.dumps(result, indent=1))
    return result


def _take_turns(workers: Sequence[Worker], repeats: int, progress: Progress, task: TaskID) -> None:
    """Take one step to warm up and `repeats` further ones, the workers in turn."""
    for turn in range(repeats + 1):
        for worker in workers:
            progress.update(task, description=f"{worker.name}, step {turn} of {repeats}")
            worker.step()
            progress.advance(task)


def run_sweep(workload: Workload, repeats: int, out: Path) -> dict[str, Any]:
    """Time rlvid's own step while one field of the workload varies at a time, as in `SWEEPS`.

    Returns:
        Field -> value -> the measurements, as in `compare_steps`. Also written to sweep-MODEL.json.
    """
    result: dict[str, Any] = {}
    for axis, values in SWEEPS.items():
        result[axis] = {}
        for value in values:
            changes: dict[str, Any] = {axis: value}
            if axis == "prompt_tokens":
                # Fill the prompt with frames: two of them are 81 tokens, and so is the image. 200 tokens are for text.
                changes["frames"] = (value - 200) // 81 * 2 - 2
            measured = compare_steps(replace(workload, **changes), ["ours"], repeats, out / f"{axis}-{value}")
            result[axis][value] = measured["implementations"]["ours"]
    write_text(out / f"sweep-{workload.model}.json", json.dumps(result, indent=1))
    return result


def steps_table(result: dict[str, Any]) -> Table:
    """Return median seconds and peak memory of each implementation of `compare_steps`, also relative to ours.

    The ratio of times is the median of the ratios within a turn. Without "ours", the first one is the baseline. On a
    machine that does other work, too, CPU-seconds say more than seconds.
    """
    implementations = result["implementations"]
    table = Table(
        *("implementation", "s per step", "range", "x ours", "peak GB", "x ours", "CPU s", "x ours", "range"),
        box=None,
        padding=(0, 2, 0, 0),
    )
    baseline = implementations.get("ours") or next(iter(implementations.values()))
    for name, measured in implementations.items():
        seconds = [turn["step"] for turn in measured["turns"]]
        baseline_seconds = [turn["step"] for turn in baseline["turns"]]
        time_ratio = median(a / b for a, b in zip(seconds, baseline_seconds, strict=True))
        memory_ratio = measured["peak_gb"] / baseline["peak_gb"]
        cpu_ratios = [a / b for a, b in zip(measured["cpu"], baseline["cpu"], strict=True)]
        table.add_row(
            name,
            f"{median(seconds):.2f}",
            f"{min(seconds):.2f} to {max(seconds):.2f}",
            f"{time_ratio:.2f}",
            f"{measured['peak_gb']:.2f}",
            f"{memory_ratio:.2f}",
            f"{median(measured['cpu']):.1f}",
            f"{median(cpu_ratios):.2f}",
            f"{min(cpu_ratios):.2f} to {max(cpu_ratios):.2f}",
        )
    return table


def phases_table(result: dict[str, Any]) -> Table:
    """Return the median seconds of each phase, for the implementations that measure phases."""
    measured = {name: m for name, m in result["implementations"].items() if len(m["turns"][0]) > 1}
    phases = list(dict.fromkeys(phase for m in measured.values() for phase in m["turns"][0]))  # in order, once each
    table = Table("median seconds", *phases, box=None, padding=(0, 2, 0, 0))
    for name, m in measured.items():
        table.add_row(name, *(f"{_median_seconds(m, phase):.2f}" for phase in phases))
    return table


def sweep_table(result: dict[str, Any]) -> Table:
    """Return the median seconds of each phase, and the peak memory, for each value of `run_sweep`."""
    phases = (*SWEEP_PHASES, "step")
    table = Table("axis", "size", *phases, "peak GB", box=None, padding=(0, 2, 0, 0))
    for axis, values in result.items():
        for value, measured in values.items():
            seconds = [f"{_median_seconds(measured, phase):.2f}" for phase in phases]
            table.add_row(AXIS_LABELS[axis], str(value), *seconds, f"{measured['peak_gb']:.2f}")
    return table


def draw_sweep(result: dict[str, Any], path: Path) -> Path:
    """Draw the median seconds of each phase against each axis of `run_sweep`, on logarithmic scales."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    for panel, (axis, values) in zip(figure.subplots(1, len(result)), result.items(), strict=True):
        sizes = [int(value) for value in values]
        for phase in SWEEP_PHASES:
            seconds = [_median_seconds(measured, phase) for measured in values.values()]
            panel.plot(sizes, seconds, marker="o", label=phase)
        panel.set(title=AXIS_LABELS[axis], xscale="log", yscale="log", ylabel="seconds per step")
        panel.set_xticks(sizes, list(map(str, values)), minor=False)
        panel.tick_params(axis="x", which="minor", labelbottom=False)
    panel.legend(frameon=False)
    figure.savefig(path, dpi=120)
    return path


def _median_seconds(measured: dict[str, Any], phase: str) -> float:
    """Return the median over turns of a phase's seconds; a phase that a turn lacks took 0."""
    return median(turn.get(phase, 0.0) for turn in measured["turns"])
