"""The process in which parts of `rlvid bench gpu` run, one after another.

CUDA does not recover from some errors, such as an illegal memory access, and a process can hang or die. So parts run in
a process that can be replaced: `Worker` is the parent's end of it.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import sys
import time
import traceback
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from rlvid.bench.gpu.parts import Case

START_LIMIT = 180.0  # seconds in which torch is imported; from a cold disk that takes long
LOG_LINES = 60  # of a process that hung or died


@dataclass
class Outcome:
    """What came of a case."""

    status: str  # "passed", "measured", "failed" or "skipped"
    values: dict[str, Any] = field(default_factory=dict)
    message: str = ""
    traceback: str = ""
    seconds: float = 0.0
    reuse: bool = True  # whether the process may run further parts


class Worker:
    """A process that runs parts.

    Args:
        context: of multiprocessing: how processes are started.
        device: "cuda" or "cpu".
        scratch: a folder for models, runs and caches.
        log: the file that its output is written to.
    """

    def __init__(self, context: BaseContext, device: str, scratch: Path, log: Path) -> None:
        self.log = log
        self.connection, child = context.Pipe()
        self.process = context.Process(target=serve, args=(child, device, scratch, log))  # type: ignore[attr-defined]
        self.process.start()
        child.close()
        self.is_ready = False

    def run(self, case: Case) -> Outcome:
        """Run a case; kill the process if it takes longer than the part's limit."""
        start = time.monotonic()
        try:
            if not self.is_ready:
                if not self.connection.poll(START_LIMIT):
                    return self._failure(f"the process did not start within {START_LIMIT:.0f} s", start)
                self.connection.recv()
                self.is_ready, start = True, time.monotonic()
            self.connection.send(case)
            if not self.connection.poll(case.part.limit + 2):  # within these the traceback is written to the log
                return self._failure(f"over its time limit of {case.part.limit:g} s", start)
            outcome: Outcome = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(5)
            return self._failure(f"the process died with exit code {self.process.exitcode}", start)
        outcome.seconds = time.monotonic() - start
        return outcome

    def stop(self) -> None:
        """Kill the process, and close the connection to it."""
        self.process.kill()
        self.process.join()
        self.connection.close()

    def _failure(self, message: str, start: float) -> Outcome:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.is_file() else []
        tail = "\n".join(lines[-LOG_LINES:])
        return Outcome("failed", {}, message, tail, time.monotonic() - start, reuse=False)


def serve(connection: Connection, device: str, scratch: Path, log: Path) -> None:
    """Run the cases that come through the connection; this is the main function of the process."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from rlvid.utils.logging import silence_libraries

    silence_libraries()
    import_module("rlvid.bench.gpu.part_run")
    connection.send("ready")
    while True:
        try:
            case: Case = connection.recv()
        except EOFError:  # the parent has ended
            return
        print(f"rlvid: {case.name}", flush=True)
        faulthandler.dump_traceback_later(case.part.limit, file=sys.__stderr__ or sys.stderr)
        outcome = run_case(case, scratch)
        faulthandler.cancel_dump_traceback_later()
        connection.send(outcome)


def run_case(case: Case, scratch: Path) -> Outcome:
    """Run a case in this process."""
    import torch

    from rlvid.bench.gpu.part_run import BarMissed, PartRun, PartSkipped

    run = PartRun(case.preset, scratch)
    module, function = case.part.function.split(":")
    try:
        getattr(import_module(module), function)(run)
        outcome = Outcome("passed" if case.part.bar else "measured", run.values)
    except PartSkipped as reason:
        outcome = Outcome("skipped", run.values, str(reason))
    except BarMissed as error:
        outcome = Outcome("failed", run.values, f"bar missed: {error}", traceback.format_exc())
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        outcome = Outcome("failed", run.values, f"{type(error).__name__}: {line}", traceback.format_exc(), reuse=False)
    gc.collect()
    if outcome.reuse and torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return outcome
