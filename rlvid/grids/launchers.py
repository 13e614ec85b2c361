"""Where a grid's cells run: as processes of this machine, or as jobs in Slurm's queue."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from rlvid.errors import UserError
from rlvid.registry import suggest
from rlvid.utils.files import wrap_write_errors

LOST = -1000  # the exit code of a job that left the queue without one
OWN = dict.fromkeys(("nodes", "tasks_per_node"), "a cell is one task on one node")
OWN |= {"comment": "by it a cell's job is found again"}
PATIENT = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "600"}  # seconds that `accelerate launch` lets a step be saved in; else 30


class Process(Protocol):
    """A cell on its way."""

    def poll(self) -> int | None:
        """Its exit code once it is over, negative where a signal ended it."""

    def stop(self) -> None:
        """We are leaving."""


class Launcher(Protocol):
    """What starts cells, `width` at a time."""

    width: int

    def start(self, command: Sequence[str], folder: Path, slot: int, lock: IO[str]) -> Process:
        """Start a cell's command, whose output is added to `folder`/output.log."""


class Local:
    """Processes of this machine, which end with their grid. Each has its share of the cores and one of the GPUs."""

    def __init__(self, jobs: int | None, whole: bool = False) -> None:
        """`whole`: a cell takes all GPUs, as `accelerate launch` deals them out itself."""
        self.gpus = [] if whole else gpus()
        self.width = jobs if jobs is not None else max(1, len(self.gpus))
        if self.width < 1:
            raise UserError(f"--jobs must be 1 or more, not {self.width}")

    def start(self, command: Sequence[str], folder: Path, slot: int, lock: IO[str]) -> Process:
        """Start it as a group of its own, so that its own children can be ended with it."""
        threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // self.width))}
        device = {"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]} if self.gpus else {}
        with (folder / "output.log").open("ab") as log:
            return Child(
                command,
                env=threads | PATIENT | os.environ | device,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
                pass_fds=[lock.fileno()],  # the lock is held until the last of us is gone
            )


class Child(subprocess.Popen[bytes]):
    """A process of this machine."""

    def stop(self) -> None:
        """End it and its children; the run resumes from its last checkpoint."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait()


@dataclass
class Slurm:
    """Jobs of Slurm's queue, through submitit. They outlive their grid; the next one follows them.

    `settings` are submitit's, such as partition, time (minutes), gpus_per_node, cpus_per_task. Where the time is up, or
    the partition is preempted with send_user_signal, a job saves its step and goes back into the queue.
    """

    jobs: int | None
    out: Path  # the grid's folder, on a file system that the nodes share
    settings: Mapping[str, Any]
    interval: float = 5.0  # seconds between two looks at the queue
    queue: Mapping[str, str] = field(default_factory=dict)  # our jobs' ids -> their comments, which are cells' folders
    looked: float = field(default=-1e9)

    def __post_init__(self) -> None:
        try:
            import submitit
            from submitit.slurm.slurm import _get_default_parameters as known
        except ImportError as error:
            raise UserError("--launcher slurm needs submitit: pip install 'rlvid[slurm]'") from error
        self.width = self.jobs if self.jobs is not None else sys.maxsize
        for name in self.settings:
            if name in OWN:
                raise UserError(f"--slurm: {name} is not yours to set: {OWN[name]}")
            if name not in known():
                raise UserError(f"--slurm: submitit has no setting {name!r}.{suggest(name, known())}")
        with wrap_write_errors(jobs := self.out / "slurm"):
            jobs.mkdir(parents=True, exist_ok=True)
            jobs.chmod(0o700)  # submitit puts pickles there, which the nodes run
        try:
            self.executor = submitit.SlurmExecutor(jobs, max_num_timeout=1000)
        except RuntimeError as error:
            raise UserError(f"--launcher slurm: {error}; start the grid on a login node") from error
        about = {"job_name": f"rlvid-{self.out.name}", "time": 24 * 60, "wckey": None}
        self.executor.update_parameters(**about | dict(self.settings))

    def start(self, command: Sequence[str], folder: Path, slot: int, lock: IO[str]) -> Process:
        """Put it into the queue, or follow the job that an earlier grid put there."""
        own = str(folder.resolve())
        job = next((id for id, comment in self.listed(now=True).items() if comment == own), "")
        if not job:
            (folder / "exit_code").unlink(missing_ok=True)
            self.executor.update_parameters(comment=own)
            try:
                job = self.executor.submit(Attempt(tuple(command), str(folder))).job_id
            except Exception as error:  # submitit shows what sbatch said in exceptions of several kinds
                said = str(error).strip().splitlines() or [repr(error)]
                raise UserError(f"sbatch does not take the job: {said[-1]}") from error
            self.listed(now=True)
        return Queued(job, folder, self)

    def listed(self, now: bool = False) -> Mapping[str, str]:
        """Our jobs that wait, run, or are requeued: ids -> comments."""
        if now or time.monotonic() > self.looked + self.interval:
            asked = subprocess.run(["squeue", "--me", "--noheader", "--format=%A %k"], capture_output=True, text=True)
            if asked.returncode == 0:  # else the controller is away, and all is as it was
                lines = [line.strip().partition(" ") for line in asked.stdout.splitlines()]
                self.queue = {id: comment for id, _, comment in lines}
            self.looked = time.monotonic()
        return self.queue


@dataclass(frozen=True)
class Queued:
    """A job in Slurm's queue."""

    id: str
    folder: Path
    slurm: Slurm

    def poll(self) -> int | None:
        """The exit code that `Attempt` left, once the job is out of the queue."""
        if self.id in self.slurm.listed():
            return None
        left = self.folder / "exit_code"
        return int(left.read_text()) if left.exists() else LOST

    def stop(self) -> None:
        """The queue keeps it."""


@dataclass(frozen=True)
class Attempt:
    """What runs on the node: the cell's command as a child, which saves its step when the job has to go."""

    command: tuple[str, ...]
    folder: str

    def __call__(self) -> int:
        """Wait for the child, and leave its exit code in the folder."""
        folder = Path(self.folder)
        (folder / "exit_code").unlink(missing_ok=True)
        with (folder / "output.log").open("ab") as log:
            child = subprocess.Popen(
                self.command, env=PATIENT | os.environ, stdout=log, stderr=log, preexec_fn=deaf_to_submitit
            )
        (folder / "slurm_child").write_text(str(child.pid))
        code = child.wait()
        (folder / "exit_code").write_text(str(code))
        return code

    def checkpoint(self) -> Any:
        """Time is up, or the node is wanted: end the child politely; submitit requeues what is returned."""
        from submitit.helpers import DelayedSubmission

        child = int((Path(self.folder) / "slurm_child").read_text())
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)  # not Popen.wait, whose lock is held by what this interrupts
        return DelayedSubmission(self)


def deaf_to_submitit() -> None:
    """In the new process: the signal that Slurm sends to the whole job is for submitit."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def gpus() -> list[str]:
    """The GPUs to share out: those that CUDA_VISIBLE_DEVICES names, else all that the driver knows."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in named.split(",") if name]
    return [str(i) for i, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]


def die_with_parent() -> None:
    """In the new process: be killed when its parent is (Linux; elsewhere the inherited lock keeps a second away)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
