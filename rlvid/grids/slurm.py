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
from rlvid.grids.accelerate import on_machine
from rlvid.grids.launchers import NO_EXIT_CODE, OUTPUT_LOG, SHUTDOWN_TIMEOUT, CellProcess
from rlvid.registry import suggest
from rlvid.utils.files import wrap_write_errors

QUEUE_POLL_SECONDS = 5.0  # between two calls of squeue
DEFAULT_TIME_MINUTES = 24 * 60
MAX_REQUEUES = 1000  # after a timeout
ENDED_BY_SLURM = -signal.SIGTERM  # the exit code of a node that Slurm ended, after another one failed
FIRST_PORT, NUM_PORTS = 20000, 10000  # for the nodes of a job to meet; below those that Linux hands out by itself
RESERVED = {  # parameters of submitit that a user cannot set, and why
    "ntasks_per_node": "a cell is one task on each node",
    "srun_args": "they end a cell on all nodes if one fails",
    "use_srun": "srun starts a cell on each node and signals that its time is up",
    "comment": "it identifies the job of a cell",
}


class SlurmLauncher:
    """Submits cells as jobs of Slurm.

    Jobs continue when their grid ends; the next grid in the same folder finds them by their comment. A job whose time
    is up, or whose partition is preempted with send_user_signal, saves its step and is requeued. A job runs one task on
    each of its nodes, and the failure of one task ends all of them. While squeue does not respond, no cell is submitted
    and none ends: its job may be in the queue.
    """

    responds: bool = True  # whether the last call of squeue succeeded

    def __init__(self, jobs: int | None, out: Path, settings: Mapping[str, Any]) -> None:
        """Set up submitit.

        Args:
            jobs: cells in the queue at a time; default: all.
            out: the folder of the grid, on a file system that the nodes share.
            settings: parameters of submitit, such as partition, time (minutes), nodes, gpus_per_node, cpus_per_task.

        Raises:
            UserError: `jobs` is less than 1, submitit or Slurm is not installed, or a parameter is unknown or reserved.
        """
        if jobs is not None and jobs < 1:
            raise UserError(f"--jobs must be 1 or more, not {jobs}")
        try:
            import submitit
            from submitit.slurm.slurm import _get_default_parameters as known_parameters
        except ImportError as error:
            raise UserError("--launcher slurm requires submitit: pip install -e '.[slurm]'") from error
        self.nodes: int = settings.get("nodes", 1)  # of each cell
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
        defaults |= {"ntasks_per_node": 1, "srun_args": ["--kill-on-bad-exit=1"]}
        self.executor.update_parameters(**defaults | dict(settings))

    def start(self, command: Sequence[str], folder: Path, slot: int, lock: IO[str]) -> CellProcess | None:
        """As `Launcher.start`; if an earlier grid submitted the cell and its job still exists, follow that job.

        None while squeue does not respond.

        Raises:
            UserError: sbatch refuses the job.
        """
        cell = str(folder.resolve())
        jobs = [job for job, comment in self.queued_jobs(refresh=True).items() if comment == cell]
        if not self.responds:
            return None
        job_id = jobs[0] if jobs else self._submit(command, folder, cell)
        return SlurmJob(job_id, folder, self)

    def queued_jobs(self, refresh: bool = False) -> Mapping[str, str]:
        """Return job id -> comment of the user's jobs that wait, run or are requeued.

        squeue is called at most every `QUEUE_POLL_SECONDS`, unless `refresh` is true and the last call succeeded.
        """
        if (refresh and self.responds) or time.monotonic() > self._listed_at + QUEUE_POLL_SECONDS:
            command = ["squeue", "--me", "--noheader", "--format=%A %k"]
            result = subprocess.run(command, capture_output=True, text=True)
            self.responds = result.returncode == 0
            if self.responds:  # otherwise assume that nothing has changed
                lines = [line.strip().partition(" ") for line in result.stdout.splitlines()]
                self._comments = {job_id: comment for job_id, _, comment in lines}
            self._listed_at = time.monotonic()
        return self._comments

    def _submit(self, command: Sequence[str], folder: Path, comment: str) -> str:
        """Submit a cell; returns the id of its job."""
        for node in range(self.nodes):
            (folder / exit_code_name(node)).unlink(missing_ok=True)
        self.executor.update_parameters(comment=comment)
        try:
            job_id = self.executor.submit(SlurmTask(tuple(command), str(folder), self.nodes)).job_id
        except Exception as error:  # submitit raises several types with the message of sbatch
            lines = str(error).strip().splitlines() or [repr(error)]
            raise UserError(f"sbatch refuses the job: {lines[-1]}") from error
        self._comments = {**self._comments, job_id: comment}  # also if squeue does not respond from now on
        self.queued_jobs(refresh=True)
        return job_id


@dataclass(frozen=True)
class SlurmJob:
    """A job in the queue of Slurm."""

    id: str
    folder: Path
    launcher: SlurmLauncher

    @property
    def log_name(self) -> str:
        """The output of the node that failed first, or of node 0 if none did."""
        return log_name(self._decisive_node)

    def poll(self) -> int | None:
        """Return the exit code of the cell, as `SlurmTask` wrote it, or None as long as the job is in the queue."""
        if self.id in self.launcher.queued_jobs():
            return None
        exit_code = self.folder / exit_code_name(self._decisive_node)
        return int(exit_code.read_text()) if exit_code.exists() else NO_EXIT_CODE

    def stop(self) -> None:
        """Do nothing: the job goes on without the grid."""

    @property
    def _decisive_node(self) -> int:
        """The number of the node whose end decided the cell's, or 0.

        That is the first that failed, unless node 0 ended well; else one that disappeared while Slurm ended the others.
        """
        files = {node: self.folder / exit_code_name(node) for node in range(self.launcher.nodes)}
        codes = {node: int(file.read_text()) for node, file in files.items() if file.exists()}
        if not codes or codes.get(0) == 0:
            return 0
        failed = [node for node, code in codes.items() if code not in (0, ENDED_BY_SLURM)]
        if failed:
            return min(failed, key=lambda node: files[node].stat().st_mtime_ns)
        lost = [node for node in files if node not in codes]
        return lost[0] if lost else 0


@dataclass(frozen=True)
class SlurmTask:
    """What each node runs: the command of a cell as a child process, which saves its step when the job must end.

    With several nodes the child is `accelerate launch`, and the launchers of all nodes meet at the first node.
    """

    command: tuple[str, ...]
    folder: str
    nodes: int = 1

    def __call__(self) -> int:
        """Run the command, and write its exit code to the run folder; a failure ends the job on all nodes."""
        folder = Path(self.folder)
        node = int(os.environ["SLURM_NODEID"]) if self.nodes > 1 else 0
        exit_code_file = folder / exit_code_name(node)
        exit_code_file.unlink(missing_ok=True)
        signals = self._record_signals(node)
        with (folder / log_name(node)).open("ab") as log:
            child = subprocess.Popen(
                self._node_command(node),
                env=SHUTDOWN_TIMEOUT | os.environ,
                stdout=log,
                stderr=log,
                preexec_fn=ignore_submitit_signal,
            )
        if node == 0:
            (folder / "slurm_child").write_text(str(child.pid))
        exit_code = child.wait()
        if exit_code and signals:
            exit_code = ENDED_BY_SLURM
        exit_code_file.write_text(str(exit_code))
        if exit_code and not signals:
            raise SystemExit(1)  # with `srun --kill-on-bad-exit` this ends the cell on the other nodes, too
        return exit_code

    def _node_command(self, node: int) -> Sequence[str]:
        """Return the command of one node: with several, the launcher's rank, and where the launchers meet.

        Each job has its own port. If another program uses it, the cell fails, and its next job has another one.
        """
        if self.nodes == 1:
            return self.command
        nodes = os.environ["SLURM_JOB_NODELIST"]  # such as "gpu[017-018]"
        names = subprocess.check_output(["scontrol", "show", "hostnames", nodes], text=True).split()
        port = FIRST_PORT + int(os.environ["SLURM_JOB_ID"]) % NUM_PORTS
        return on_machine(self.command, node, names[0], port)

    def _record_signals(self, node: int) -> Sequence[int]:
        """Return a list that receives the signals with which Slurm ends one node of several.

        SIGTERM means that another node failed, or that the job was cancelled. SIGUSR2 means that the job is about to be
        requeued: node 0 saves the step, which ends the processes of all nodes. Until it has requeued the job, the
        others must not fail.
        """
        received: list[int] = []
        if self.nodes > 1:
            signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
        if node > 0:
            signal.signal(signal.SIGUSR2, lambda number, _: received.append(number))
        return received

    def checkpoint(self) -> Any:
        """End the child with SIGTERM; submitit calls this before a timeout or preemption and requeues the result."""
        from submitit.helpers import DelayedSubmission

        child = int((Path(self.folder) / "slurm_child").read_text())
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)  # not Popen.wait: the signal interrupted it while it holds its lock
        return DelayedSubmission(self)


def log_name(node: int) -> str:
    """Return the file in the run folder with the output of a node."""
    return f"output-node{node}.log" if node else OUTPUT_LOG


def exit_code_name(node: int) -> str:
    """Return the file in the run folder with the exit code of a node."""
    return f"exit_code-node{node}" if node else "exit_code"


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
    """Raise UserError if a parameter is reserved, unknown to submitit, or no possible number of nodes."""
    for name in settings:
        if name in RESERVED:
            raise UserError(f"--slurm: {name} cannot be set: {RESERVED[name]}")
        if name not in known:
            raise UserError(f"--slurm: submitit has no parameter {name!r}.{suggest(name, known)}")
    nodes = settings.get("nodes", 1)
    if not isinstance(nodes, int) or nodes < 1:
        raise UserError(f"--slurm: nodes must be a whole number of 1 or more, not {nodes}")
