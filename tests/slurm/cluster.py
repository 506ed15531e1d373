"""A Slurm of one node on this machine, in a folder of its own, gone when the block ends."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "sinfo")
DAEMONS = ("slurmd", "slurmctld", "munged")
#: Told to Slurm, whatever the machine has.
CPUS = 8
#: Seconds that a client's call may take.
CALL = 30

# cred_expire: else a requeued job waits two minutes. DefMemPerCPU: else each takes all memory.
# `high` preempts `test`, which sends SIGUSR2 at once and gives ten seconds to put things down.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket,cred_expire=5
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
ReturnToService=2
JobRequeue=1
KillWait=5
MinJobAge=3600
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=8000 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES PriorityTier=1 GraceTime=10 MaxTime=60 State=UP
PartitionName=high Nodes={host} PriorityTier=10 PreemptMode=OFF MaxTime=60 State=UP
"""


@dataclass(frozen=True)
class Slurm:
    """A running cluster; `environment` is what its clients need."""

    folder: Path
    environment: Mapping[str, str]

    def call(self, *command: str) -> str:
        """A client's answer."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=CALL, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}\n{self.logs()}")
        return done.stdout.strip()

    def jobs(self) -> dict[str, str]:
        """State of every job that waits or runs, by `<array>_<task>`."""
        lines = self.call("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def facts(self, job: str) -> dict[str, str]:
        """What `scontrol show job` tells: JobState, ExitCode, Restarts and so on."""
        text = self.call("scontrol", "--oneliner", "show", "job", job)
        return dict(item.split("=", 1) for item in text.split() if "=" in item)

    def logs(self) -> str:
        """The ends of the daemons' logs."""
        tails = (path.read_text()[-1500:] for path in sorted((self.folder / "log").iterdir()))
        return "\n".join(tails)


def wait_for(what: str, condition: Callable[[], bool], seconds: float, each: float = 0.1) -> None:
    """Poll until `condition` holds; an AssertionError that says `what` did not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(each)


def missing_programs() -> list[str]:
    """What of Slurm is not installed."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


@contextmanager
def slurm() -> Iterator[Slurm]:
    """Start munged, slurmctld and slurmd; stop them, and their jobs, at the end."""
    with tempfile.TemporaryDirectory(prefix="profi-slurm-") as name:
        cluster = set_up(Path(name))
        try:
            start(cluster)
            yield cluster
        finally:
            stop(cluster)


def set_up(folder: Path) -> Slurm:
    """Write the configuration and the key."""
    # munged refuses a socket that others could not reach.
    folder.chmod(0o755)
    for name in ("state", "spool", "log", "run"):
        (folder / name).mkdir(parents=True)
    host = socket.gethostname().partition(".")[0]
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(folder=folder, host=host, ports=free_ports(2), cpus=CPUS)
    )
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    environment = {
        **os.environ,
        "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
        "SLURM_CONF": str(configuration),
    }
    return Slurm(folder, environment)


def start(cluster: Slurm) -> None:
    """Start the daemons and wait for the node."""
    folder = cluster.folder
    munged = [
        "munged",
        f"--socket={folder}/run/munge.socket",
        f"--key-file={folder}/munge.key",
        f"--log-file={folder}/log/munged.log",
        f"--pid-file={folder}/run/munged.pid",
        f"--seed-file={folder}/munge.seed",
    ]
    for command in (munged, ["slurmctld"], ["slurmd"]):
        # Each goes into the background by itself; a pipe would stay open with it.
        with (folder / "log" / "start.log").open("ab") as output:
            done = subprocess.run(
                command,
                env=cluster.environment,
                stdout=output,
                stderr=output,
                timeout=60,
                check=False,
            )
        if done.returncode:
            raise RuntimeError(f"{command[0]} does not start: {cluster.logs()}")
    wait_for("the node is idle", lambda: node_state(cluster) == "idle", 60, each=0.5)


def node_state(cluster: Slurm) -> str:
    """`idle`, `mixed`, ...; empty while the controller does not answer."""
    try:
        return cluster.call("sinfo", "--noheader", "--partition=test", "--format=%T")
    except (RuntimeError, subprocess.TimeoutExpired):
        return ""


def stop(cluster: Slurm) -> None:
    """Cancel all jobs, then end the daemons by their pid files."""
    pids = [cluster.folder / "run" / f"{name}.pid" for name in DAEMONS]
    if all(file.is_file() for file in pids):
        # submitit's jobs do not listen to the SIGTERM that a plain cancellation starts with.
        cluster.call("scancel", "--signal=KILL", "--full", "--user=root")
        cluster.call("scancel", "--user=root")
        wait_for("the queue is empty", lambda: not cluster.jobs(), 60, each=0.5)
    for file in pids:
        if file.is_file():
            end(int(file.read_text()))


def end(pid: int) -> None:
    """SIGTERM, and SIGKILL for what does not listen."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        if alive(pid):
            os.kill(pid, sent)
        for _ in range(50):
            if not alive(pid):
                return
            time.sleep(0.1)


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]
    finally:
        for item in sockets:
            item.close()
