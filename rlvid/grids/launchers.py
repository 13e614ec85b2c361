"""Where the cells of a grid run: the interface of launchers, and the one for processes of this machine."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Protocol

from rlvid.errors import UserError

OUTPUT_LOG = "output.log"  # in a run folder
NO_EXIT_CODE = -1000  # stands for the exit code of a job that left the queue without one
# After SIGTERM, `accelerate launch` gives its processes this many seconds to save a step. Its default is 30.
SHUTDOWN_TIMEOUT = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "600"}
PR_SET_PDEATHSIG = 1  # of prctl, from linux/prctl.h


class CellProcess(Protocol):
    """The process of a cell, here or elsewhere."""

    @property
    def log_name(self) -> str:
        """The file in the run folder with the output; of several machines, that of the first that failed, if any."""

    def poll(self) -> int | None:
        """Return the exit code, negative after a signal, or None while the process runs."""

    def stop(self) -> None:
        """Called when the grid ends: stop the process, unless it should go on without the grid."""


class Launcher(Protocol):
    """Starts cells, at most `width` at a time."""

    width: int

    def start(self, command: Sequence[str], folder: Path, slot: int, lock: IO[str]) -> CellProcess | None:
        """Start the command of a cell; None where it cannot be started now, and should be tried again.

        Args:
            command: the command line.
            folder: the run folder; output is appended to its output.log.
            slot: the number of the slot, from 0, in which the cell runs.
            lock: the locked file that shows other grids that the cell is running.
        """


class LocalLauncher:
    """Runs cells as processes of this machine, which end with the grid. Cells share its CPU cores and its GPUs."""

    def __init__(self, jobs: int | None, all_gpus_per_cell: bool = False) -> None:
        """Set the number of slots.

        Args:
            jobs: cells at a time; default: one per GPU, or 1.
            all_gpus_per_cell: each cell uses all GPUs, for `accelerate launch`, which assigns them itself.

        Raises:
            UserError: `jobs` is less than 1.
        """
        self.gpus = [] if all_gpus_per_cell else visible_gpus()
        self.width = jobs if jobs is not None else max(1, len(self.gpus))
        if self.width < 1:
            raise UserError(f"--jobs must be 1 or more, not {self.width}")

    def start(self, command: Sequence[str], folder: Path, slot: int, lock: IO[str]) -> CellProcess:
        """As `Launcher.start`. The process has its own group, so that it is stopped together with its children."""
        cores_per_cell = max(1, (os.cpu_count() or 1) // self.width)
        defaults = {"OMP_NUM_THREADS": str(cores_per_cell)} | SHUTDOWN_TIMEOUT
        device = {"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]} if self.gpus else {}
        with (folder / OUTPUT_LOG).open("ab") as log:
            return LocalProcess(
                command,
                env=defaults | os.environ | device,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
                pass_fds=[lock.fileno()],  # the lock is held until the last process of the cell has ended
            )


class LocalProcess(subprocess.Popen[bytes]):
    """A cell as a process of this machine."""

    log_name = OUTPUT_LOG

    def stop(self) -> None:
        """Kill the process and its children. The run resumes from its last checkpoint."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait()


def visible_gpus() -> list[str]:
    """Return the GPUs of CUDA_VISIBLE_DEVICES if it is set, else the numbers of all GPUs that the driver lists."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [name for name in listed.split(",") if name]
    return [str(i) for i, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]


def die_with_parent() -> None:
    """Make Linux kill this process when its parent ends; runs in the child before the command starts.

    On other systems such a process goes on, and the lock that it inherited keeps other grids from starting the cell.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
