"""Run the cells of a grid as jobs of Slurm, through submitit."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rlvid.errors import UserError
from rlvid.grids.launchers import NO_EXIT_CODE, SHUTDOWN_TIMEOUT, CellProcess
from rlvid.registry import suggest
from rlvid.utils.files import wrap_write_errors

QUEUE_POLL_SECONDS = 5.0  # between two calls of squeue
DEFAULT_TIME_MINUTES = 24 * 60
MAX_REQUEUES = 1000  # after a timeout
RESERVED = {  # parameters of submitit that a user cannot set, and why
    "nodes": "a cell is one task on one node",
    "tasks_per_node": "a cell is one task on one node",
    "comment": "it identifies the job of a cell",
}


class SlurmLauncher:
    """Submits cells as jobs of Slurm.

    Jobs continue when their grid ends; the next grid in the same folder finds them by their comment. A job whose time
    is up, or whose partition is preempted with send_user_signal, saves its step and is requeued.
    """

    def __init__(self, jobs: int | None, out: Path, settings: Mapping[str, Any]) -> None:
        """Set up submitit.

        Args:
            jobs: cells in the queue at a time; default: all.
            out: the folder of the grid, on a file system that the nodes share.
            settings: parameters of submitit, such as partition, time (minutes), gpus_per_node, cpus_per_task.

        Raises:
            UserError: submitit or Slurm is not installed, or a parameter is unknown or reserved.
        """
        try:
            import submitit
            from submitit.slurm.slurm import _get_default_parameters as known_parameters
        except ImportError as error:
            raise UserError("--launcher slurm requires submitit: pip install 'rlvid[slurm]'") from error
        self.width = jobs if jobs is not None else sys.maxsize
        self._comments: Mapping[str, str] = {}  # job id -> comment, which is the run folder of the cell
        self._listed_at = -float("inf")  # time of the last call of squeue, in seconds
        check_slurm_settings(settings, known_parameters())
        folder = out / "slurm"
        with wrap_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)  # submitit writes pickles there, which the nodes execute
        try:
            self.executor = submitit.SlurmExecutor(folder, max_num_timeout=MAX_REQUEUES)
        except RuntimeError as error:
            raise UserError(f"--launcher slurm: {error}; start the grid on a login node") from error
        defaults = {"job_name": f"rlvid-{out.name}", "time": DEFAULT_TIME_MINUTES, "wckey": None}
        self.executor.update_parameters(**defaults | dict(settings))

    def start(self, command: Sequence[str], folder: Path, slot: int, lock: IO[str]) -> CellProcess:
        """As `Launcher.start`; if an earlier grid submitted the cell and its job still exists, follow that job.

        Raises:
            UserError: sbatch refuses the job.
        """
        cell = str(folder.resolve())
        jobs = [job for job, comment in self.queued_jobs(refresh=True).items() if comment == cell]
        job_id = jobs[0] if jobs else self._submit(command, folder, cell)
        return SlurmJob(job_id, folder, self)

    def queued_jobs(self, refresh: bool = False) -> Mapping[str, str]:
        """Return job id -> comment of the user's jobs that wait, run or are requeued.

        squeue is called at most every `QUEUE_POLL_SECONDS`, unless `refresh` is true.
        """
        if refresh or time.monotonic() > self._listed_at + QUEUE_POLL_SECONDS:
            command = ["squeue", "--me", "--noheader", "--format=%A %k"]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode == 0:  # otherwise the controller does not respond: assume that nothing has changed
                lines = [line.strip().partition(" ") for line in result.stdout.splitlines()]
                self._comments = {job_id: comment for job_id, _, comment in lines}
            self._listed_at = time.monotonic()
        return self._comments

    def _submit(self, command: Sequence[str], folder: Path, comment: str) -> str:
        """Submit a cell; returns the id of its job."""
        (folder / "exit_code").unlink(missing_ok=True)
        self.executor.update_parameters(comment=comment)
        try:
            job_id = self.executor.submit(SlurmTask(tuple(command), str(folder))).job_id
        except Exception as error:  # submitit raises several types with the message of sbatch
            lines = str(error).strip().splitlines() or [repr(error)]
            raise UserError(f"sbatch refuses the job: {lines[-1]}") from error
        self.queued_jobs(refresh=True)
        return job_id


@dataclass(frozen=True)
class SlurmJob:
    """A job in the queue of Slurm."""

    id: str
    folder: Path
    launcher: SlurmLauncher

    def poll(self) -> int | None:
        """Return the exit code that `SlurmTask` wrote, or None as long as the job is in the queue."""
        if self.id in self.launcher.queued_jobs():
            return None
        exit_code = self.folder / "exit_code"
        return int(exit_code.read_text()) if exit_code.exists() else NO_EXIT_CODE

    def stop(self) -> None:
        """Do nothing: the job goes on without the grid."""


@dataclass(frozen=True)
class SlurmTask:
    """What a node runs: the command of a cell as a child process, which saves its step when the job must end."""

    command: tuple[str, ...]
    folder: str

    def __call__(self) -> int:
        """Run the command, and write its exit code to FOLDER/exit_code."""
        folder = Path(self.folder)
        (folder / "exit_code").unlink(missing_ok=True)
        environment = SHUTDOWN_TIMEOUT | os.environ
        with (folder / "output.log").open("ab") as log:
            child = subprocess.Popen(
                self.command, env=environment, stdout=log, stderr=log, preexec_fn=ignore_submitit_signal
            )
        (folder / "slurm_child").write_text(str(child.pid))
        exit_code = child.wait()
        (folder / "exit_code").write_text(str(exit_code))
        return exit_code

    def checkpoint(self) -> Any:
        """End the child with SIGTERM; submitit calls this before a timeout or preemption and requeues the result."""
        from submitit.helpers import DelayedSubmission

        child = int((Path(self.folder) / "slurm_child").read_text())
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)  # not Popen.wait: the signal interrupted it while it holds its lock
        return DelayedSubmission(self)


def ignore_submitit_signal() -> None:
    """Ignore SIGUSR2, which Slurm sends to all processes of a job and only submitit handles; runs in the child."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def parse_slurm_settings(words: Sequence[str]) -> dict[str, Any]:
    """Parse `key=value` words; digits become an int.

    >>> parse_slurm_settings(["partition=gpu", "time=240"])
    {'partition': 'gpu', 'time': 240}

    Raises:
        UserError: a word is not key=value.
    """
    settings: dict[str, Any] = {}
    for word in words:
        if not re.fullmatch(r"\w+=.+", word):
            raise UserError(f"--slurm {word!r} is not key=value")
        key, value = word.split("=", 1)
        settings[key] = int(value) if value.isdigit() else value
    return settings


def check_slurm_settings(settings: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise UserError if a parameter is reserved, or unknown to submitit."""
    for name in settings:
        if name in RESERVED:
            raise UserError(f"--slurm: {name} cannot be set: {RESERVED[name]}")
        if name not in known:
            raise UserError(f"--slurm: submitit has no parameter {name!r}.{suggest(name, known)}")
