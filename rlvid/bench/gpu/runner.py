"""Run the parts of `rlvid bench gpu` within a budget of time, whatever fails, and rewrite the JSON after each."""

from __future__ import annotations

import json
import multiprocessing
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from rlvid.bench.gpu.parts import Case
from rlvid.bench.gpu.tables import case_line
from rlvid.bench.gpu.worker import Outcome, Worker
from rlvid.utils.files import write_text

PACKAGES = ("torch", "transformers", "accelerate", "peft", "trl", "rlvid")
RESULT = "gpu.json"
START_METHOD = "spawn"  # each process is a new Python, which has not touched CUDA


def run_cases(
    cases: Sequence[Case],
    device: str,
    minutes: float,
    out: Path,
    console: Console,
) -> dict[str, Any]:
    """Run cases one after another; print a line for each.

    A case that fails is recorded with its message and traceback, and the next one runs. One whose time limit does not
    fit in the time that is left is skipped, and so is one that needs CUDA on a CPU.

    Args:
        cases: see `parts.planned`.
        device: "cuda" or "cpu".
        minutes: the budget.
        out: the folder of gpu.json, and of the logs of the processes.
        console: where lines are printed.

    Returns:
        "environment", and "cases": name, preset, bar, status, values, seconds, message and traceback of each.
    """
    deadline = time.monotonic() + 60 * minutes
    result: dict[str, Any] = {"environment": environment(device), "minutes": minutes, "cases": []}
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch, workers(device, Path(scratch), out) as run:
        for case in cases:
            left = deadline - time.monotonic()
            if case.part.needs_cuda and device != "cuda":
                outcome = Outcome("skipped", message="needs CUDA")
            elif case.part.limit > left:
                outcome = Outcome(
                    "skipped", message=f"may take {case.part.limit:g} s, and {max(left, 0):.0f} s are left"
                )
            else:
                outcome = run(case)
            result["cases"].append(as_row(case, outcome))
            write_text(out / RESULT, json.dumps(result, indent=1))
            console.print(case_line(result["cases"][-1]), soft_wrap=True)
    return result


@contextmanager
def workers(device: str, scratch: Path, out: Path) -> Iterator[Any]:
    """Yield a function that runs a case, in the process of the last one unless that failed."""
    context = multiprocessing.get_context(START_METHOD)
    worker: Worker | None = None
    started = 0

    def run(case: Case) -> Outcome:
        nonlocal worker, started
        if worker and case.part.own_process:
            worker.stop()
            worker = None
        if worker is None:
            started += 1
            worker = Worker(context, device, scratch, out / f"worker-{started}.log")
        outcome = worker.run(case)
        if not outcome.reuse or case.part.own_process:
            worker.stop()
            worker = None
        return outcome

    try:
        yield run
    finally:
        if worker:
            worker.stop()


def as_row(case: Case, outcome: Outcome) -> dict[str, Any]:
    """Return a case and its outcome as JSON."""
    part = case.part
    return {
        "name": part.name,
        "preset": case.preset,
        "text": part.text,
        "bar": part.bar,
        "status": outcome.status,
        "seconds": round(outcome.seconds, 2),
        "values": outcome.values,
        "message": outcome.message,
        "traceback": outcome.traceback,
    }


def environment(device: str) -> dict[str, Any]:
    """Return what the figures depend on; CUDA is not initialised in this process."""
    gpu = ""
    if device == "cuda" and shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        gpu = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "gpu": gpu,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
