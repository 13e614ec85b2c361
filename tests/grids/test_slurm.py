"""A grid on a real Slurm of one node; where Slurm is not installed, only a job in submitit's local executor."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from rlvid.grids.launchers import Attempt, Slurm
from tests.helpers.grids import rows, start, wait_for  # noqa: F401  (start is a fixture)

CONF = """
ClusterName=one
SlurmctldHost=localhost
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket
CredType=cred/munge
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.log
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=localhost CPUs=2 State=UNKNOWN
PartitionName=low Nodes=localhost Default=YES PriorityTier=1
PartitionName=high Nodes=localhost PriorityTier=2
"""
DAEMONS = ("munged", "slurmctld", "slurmd")
missing = [name for name in (*DAEMONS, "sbatch", "srun") if not shutil.which(name, path=f"{os.defpath}:/usr/sbin")]
real = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """One node, two partitions; jobs in the high one drive those in the low one out."""
    home = tmp_path_factory.mktemp("slurm")
    home.chmod(0o700)
    for name in ("state", "spool"):
        (home / name).mkdir()
    sockets = [socket.create_server(("", 0)) for _ in range(2)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    (home / "slurm.conf").write_text(CONF.format(home=home, ports=ports, user=os.environ.get("USER", "root")))
    (home / "munge.key").write_bytes(os.urandom(1024))
    (home / "munge.key").chmod(0o400)
    conf = {"SLURM_CONF": str(home / "slurm.conf"), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    munge = [f"--{name}={home}/munge.{name.split('-')[0]}" for name in ("key-file", "socket", "pid-file", "log-file")]
    environment = os.environ | conf
    commands = [["munged", "--foreground", "--force", f"--seed-file={home}/munge.seed", *munge]]
    commands += [["slurmctld", "-D"], ["slurmd", "-D", "-N", "localhost"]]
    with (home / "daemons.log").open("w") as log:
        daemons = [subprocess.Popen(command, env=environment, stdout=log, stderr=log) for command in commands]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in conf.items():
            patch.setenv(name, value)
        wait_for(lambda: "idle" in subprocess.run(["sinfo"], capture_output=True, text=True).stdout)
        yield home
    for daemon in reversed(daemons):
        daemon.terminate()
        daemon.wait(20)


def queue():
    """The ids of the jobs that wait or run."""
    return subprocess.check_output(["squeue", "--noheader", "--format=%A"], text=True).split()


SLURM = ("--launcher", "slurm", "--slurm", "partition=low", "cpus_per_task=1")


@real
def test_jobs_outlive_a_killed_grid_and_the_next_one_follows_them(start, tmp_path, slurm):  # noqa: F811
    runs = tmp_path / "runs" / "counting"
    grid = {"long": 150, "seconds": 0.05}
    first = start(*SLURM, "--jobs", "3", **grid)
    wait_for(lambda: any(row["folder"].startswith("long") for row in rows(runs / "starts.jsonl")), 90)
    first.kill()
    first.communicate()
    assert queue(), "the jobs are still there"
    assert not [path for path in runs.rglob("*job*") if path.parent.name != "slurm"], "the queue alone remembers them"
    assert (runs / "slurm").stat().st_mode & 0o777 == 0o700, "what is pickled there is run"
    again = start(*SLURM, "--jobs", "6", **grid)
    _, err = again.communicate(timeout=200)
    assert again.returncode == 0, err
    starts = Counter(row["folder"] for row in rows(runs / "starts.jsonl"))
    assert len(starts) == 9 and set(starts.values()) == {1}, "no cell is run twice"
    assert not queue()


@real
@pytest.mark.parametrize("how", ["preempted", "time is up"])
def test_a_job_that_has_to_go_comes_back_and_goes_on(start, tmp_path, slurm, how):  # noqa: F811
    runs = tmp_path / "runs" / "counting"
    grid = start(*SLURM, "--only", "long, low", long=80, seconds=0.1)
    wait_for(lambda: any(len(rows(path)) > 5 for path in runs.glob("long*/metrics.jsonl")), 60)
    before = queue()
    if how == "preempted":
        subprocess.check_call(["sbatch", "-p", "high", "-n", "2", "-o", "/dev/null", "--wrap", "sleep 1"])
    else:
        subprocess.check_call(["scancel", "--signal=USR2", *before])  # as Slurm does, 90 s before the time is up
    wait_for(lambda: "PENDING" in states(before) and len(rows(runs / "starts.jsonl")) == 2, 60)
    while grid.poll() is None:  # Slurm lets a requeued job wait for two minutes
        for job in set(before) & set(queue()):
            subprocess.run(["scontrol", "update", f"jobid={job}", "starttime=now"], capture_output=True)
        time.sleep(0.5)
    assert grid.returncode == 0, grid.stderr.read()
    starts = Counter(row["folder"] for row in rows(runs / "starts.jsonl"))
    assert len(starts) == 2 and max(starts.values()) == 2
    for folder in starts:
        assert [row["step"] for row in rows(runs / folder / "metrics.jsonl")] == list(range(1, 81))


def states(jobs):
    """The states of some jobs."""
    return subprocess.check_output(["squeue", "--noheader", "--format=%T", "-j", ",".join(jobs)], text=True).split()


@real
def test_what_fails_three_times_is_set_aside_and_named(start, tmp_path, slurm):  # noqa: F811
    grid = start(*SLURM, "--only", "short, high", "base", high="{'train.learning_rate': 666.0}")
    _, err = grid.communicate(timeout=120)
    assert grid.returncode == 1
    failed = [line for line in err.splitlines() if line.startswith("failed: ") and "output.log" in line]
    assert len(failed) == 2 and all("out of its mind (3 tries)" in line for line in failed), err
    assert "1 of 3 runs done" in err


@real
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["partitoin=low"], "no setting 'partitoin'. Did you mean 'partition'?"),
        (["low"], "--slurm 'low' is not key=value"),
        (["comment=mine"], "comment is not yours to set"),
        (["nodes=2"], "nodes is not yours to set: a cell is one task on one node"),
        (["partition=nowhere"], "Invalid partition name"),
    ],
)
def test_a_mistake_is_one_line(start, slurm, words, says):  # noqa: F811
    grid = start("--launcher", "slurm", "--slurm", *words)
    _, err = grid.communicate(timeout=60)
    told = [line for line in err.splitlines() if line.startswith("rlvid: ")]
    assert grid.returncode == 2 and len(told) == 1 and says in told[0], err


def test_an_attempt_saves_its_step_and_is_requeued(tmp_path, monkeypatch):
    """In submitit's local executor: signalled when its time is nearly up, it starts its command again."""
    import submitit

    script = tmp_path / "cell.py"
    script.write_text(
        "import signal, sys, time\n"
        "from pathlib import Path\n"
        "log = Path('turns.txt')\n"
        "def bye(*_):\n    log.write_text(log.read_text() + 'saved ')\n    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, bye)\n"
        "first = not log.exists()\n"
        "log.write_text('begun ' if first else log.read_text() + 'resumed')\n"
        "time.sleep(60 if first else 0)\n"
    )
    executor = submitit.LocalExecutor(tmp_path / "submitit")
    executor.update_parameters(timeout_min=0.2, signal_delay_s=10)  # signalled after two seconds of twelve
    monkeypatch.chdir(tmp_path)
    job = executor.submit(Attempt((sys.executable, str(script)), str(tmp_path)))
    assert job.result() == 0
    assert (tmp_path / "turns.txt").read_text() == "begun saved resumed"
    assert (tmp_path / "exit_code").read_text() == "0"


def test_without_slurm_it_says_so(tmp_path, monkeypatch):
    from rlvid.errors import UserError

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="start the grid on a login node"):
        Slurm(None, Path(tmp_path), {})
