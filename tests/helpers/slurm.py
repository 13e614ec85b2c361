"""A real Slurm of this test run: two nodes on this machine. Node 2 can be killed and started again."""

import os
import shutil
import signal
import socket
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.helpers.grids import wait_until

# The partitions "low" and "high" are one node, and jobs of the second preempt those of the first. A node that is not
# responding is down after 4 seconds.
SLURM_CONF = """
ClusterName=one
SlurmctldHost=localhost
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket
CredType=cred/munge
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool-%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd-%n.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd-%n.log
SlurmctldPort={ports[0]}
SlurmdTimeout=4
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
NodeName=127.0.0.1 NodeHostname=localhost Port={ports[1]} CPUs=2 State=UNKNOWN
NodeName=node2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 State=UNKNOWN
PartitionName=low Nodes=127.0.0.1 Default=YES PriorityTier=1
PartitionName=high Nodes=127.0.0.1 PriorityTier=2
PartitionName=both Nodes=127.0.0.1,node2 PriorityTier=1
"""
NODES = ("127.0.0.1", "node2")  # the first is the address at which the launchers of both nodes meet
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
missing = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.defpath}:/usr/sbin")]
needs_slurm = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def free_ports(count):
    """Numbers of free ports."""
    sockets = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Cluster:
    """The daemons of Slurm; their files are in the folder `home`."""

    def __init__(self, home):
        self.home = home
        home.chmod(0o700)
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (home / name).mkdir()
        user = os.environ.get("USER", "root")
        (home / "slurm.conf").write_text(SLURM_CONF.format(home=home, ports=free_ports(1 + len(NODES)), user=user))
        (home / "munge.key").write_bytes(os.urandom(1024))
        (home / "munge.key").chmod(0o400)
        self.variables = {"SLURM_CONF": str(home / "slurm.conf"), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        self.daemons = {}
        self.start(
            "munged", "--foreground", "--force", *(f"--{option}={home}/munge.{end}" for option, end in files.items())
        )
        self.start("slurmctld", "-D")
        for node in NODES:
            self.start_node(node)

    def start(self, *command, name=""):
        """Start a daemon."""
        with (self.home / "daemons.log").open("a") as log:
            environment = os.environ | self.variables
            self.daemons[name or command[0]] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def start_node(self, node):
        """Start the daemon of a node."""
        self.start("slurmd", "-D", "-N", node, name=node)

    def stop(self):
        """Stop all daemons."""
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
            daemon.wait(20)


@contextmanager
def slurm_cluster(home):
    """Slurm with two idle nodes, to which the commands of this process and its children belong."""
    cluster = Cluster(home)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in cluster.variables.items():
                patch.setenv(name, value)
            wait_until(lambda: node_states() == dict.fromkeys(NODES, "idle"))
            yield cluster
    finally:
        cluster.stop()


def node_states():
    """Node -> its state."""
    result = subprocess.run(["sinfo", "--noheader", "--Node", "--format=%N %t"], capture_output=True, text=True)
    return dict(line.split() for line in result.stdout.splitlines())


def queued_jobs():
    """The ids of the jobs that wait or run."""
    return subprocess.check_output(["squeue", "--noheader", "--format=%A"], text=True).split()


def job_states(jobs):
    """The states of some jobs."""
    return subprocess.check_output(["squeue", "--noheader", "--format=%T", "-j", ",".join(jobs)], text=True).split()


def start_requeued(jobs):
    """Start jobs now that Slurm has requeued; it would let them wait for two minutes."""
    for job in set(jobs) & set(queued_jobs()):
        subprocess.run(["scontrol", "update", f"jobid={job}", "starttime=now"], capture_output=True)


def step_processes(node):
    """The ids of all processes of this machine that belong to a job on a node."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended, or belongs to another user
            if f"SLURMD_NODENAME={node}\0".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def kill_processes(node):
    """Kill all processes of the jobs on a node."""
    for pid in step_processes(node):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
