"""A sweep on a real Slurm that is preempted, killed and begun again, against one left in peace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from cluster import CPUS, Slurm, wait_for
from stored import pictures, runs

from profi.store.parts import part_indices

pytestmark = pytest.mark.slurm

REPOSITORY = Path(__file__).parents[2]
SEEDS, SHARDS, TRIPLETS, PART = 5, 2, 16, 2
PARTS = TRIPLETS // PART
#: Each takes two CPUs: they fill the node.
TOGETHER = CPUS // 2
SETTINGS = (f"data.limit={TRIPLETS}", f"part_size={PART}", "sampling.num_inference_steps=8")
SWEEP = (
    "-m",
    "hydra/launcher=slurm_cpu",
    "hydra.launcher.mem_gb=1",
    f"hydra.launcher.array_parallelism={TOGETHER}",
    "stage=generate",
    f"seed={','.join(map(str, range(SEEDS)))}",
    f"shard={','.join(f'{i + 1}/{SHARDS}' for i in range(SHARDS))}",
    *SETTINGS,
)
ALL_SEEDS = (f"seeds=[{','.join(map(str, range(SEEDS)))}]", "name=sweep", *SETTINGS)
#: Seconds for what takes some seconds where the machine has nothing else to do.
PATIENCE = 400


def start(cluster: Slurm, out: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**cluster.environment, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with Path(f"{out}.log").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "run.py", *arguments, f"out={out}"],
            cwd=REPOSITORY, env=environment, stdout=output, stderr=output,
        )  # fmt: skip


def finish(process: subprocess.Popen[bytes], out: Path) -> None:
    assert process.wait(PATIENCE) == 0, Path(f"{out}.log").read_text()[-3000:]


def painted(out: Path, task: int) -> list[int]:
    """The parts that a task of the array has written: seeds outermost, as Hydra sweeps."""
    seed, shard = divmod(task, SHARDS)
    folder = runs(out).get(seed)
    parts = [] if folder is None else part_indices(folder / "generations")
    return [index for index in parts if index % SHARDS == shard]


def in_the_middle(out: Path, task: int) -> bool:
    """Some parts are there and at least two are not."""
    return 0 < len(painted(out, task)) < PARTS // SHARDS - 1


def running(cluster: Slurm) -> list[str]:
    """The array's jobs that run, `<array>_<task>`."""
    return [job for job, state in cluster.jobs().items() if state == "RUNNING" and "_" in job]


def task_of(job: str) -> int:
    return int(job.partition("_")[2])


def worker(cluster: Slurm, job: str) -> int:
    """The process id of a job's Python."""
    expected = {
        f"SLURM_ARRAY_TASK_ID={task_of(job)}",
        f"SLURM_CONF={cluster.environment['SLURM_CONF']}",
    }
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            variables = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        program = command.split(b"\0")[0]
        if (
            b"submitit.core._submit" in command
            and b"python" in program
            and expected <= set(variables)
        ):
            return int(folder.name)
    raise LookupError(f"{job} has no process")


def preempt_one(cluster: Slurm, out: Path) -> str:
    """A short job of higher priority takes one job's place; that one's name."""
    wait_for(
        "the node is full and one job is in the middle of its work",
        lambda: (
            len(jobs := running(cluster)) == TOGETHER
            and any(in_the_middle(out, task_of(job)) for job in jobs)
        ),
        PATIENCE,
    )
    # A job that ends at this very moment makes room without a preemption: then once more.
    for _ in range(5):
        before = running(cluster)
        answer = cluster.call(
            "sbatch", "--partition=high", "--cpus-per-task=2",
            "--output=/dev/null", "--wrap=sleep 1",
        )  # fmt: skip
        other = answer.split()[-1]
        wait_for("it is done", lambda job=other: job not in cluster.jobs(), 120)
        for job in {*before, *running(cluster)}:
            if cluster.facts(job)["Restarts"] != "0":
                return job
    raise AssertionError("no job was preempted")


def kill_one(cluster: Slurm, out: Path, spared: str) -> str:
    """kill -9 of a job's process in the middle of its work; the job's name."""
    killed: list[str] = []

    def kill() -> bool:
        for job in running(cluster):
            if job != spared and in_the_middle(out, task_of(job)):
                with suppress(LookupError, ProcessLookupError):
                    os.kill(worker(cluster, job), signal.SIGKILL)
                    killed.append(job)
                    return True
        return False

    wait_for("a job is in the middle of its work", kill, PATIENCE)
    wait_for("Slurm has noticed", lambda: killed[0] not in cluster.jobs(), 60)
    return killed[0]


def test_a_preempted_killed_and_restarted_sweep_equals_an_undisturbed_run(
    cluster: Slurm, tmp_path: Path
) -> None:
    out, peaceful = tmp_path / "swept", tmp_path / "peaceful"
    first = start(cluster, out, *SWEEP)
    undisturbed = start(cluster, peaceful, *ALL_SEEDS)
    preempted = preempt_one(cluster, out)
    killed = kill_one(cluster, out, spared=preempted)
    # The terminal that launched the sweep dies; its jobs go on without it.
    first.kill()
    first.wait()
    wait_for("the jobs end", lambda: not cluster.jobs(), PATIENCE, each=0.5)

    (log,) = (out / ".hydra-logs" / preempted).glob("*_log.out")
    assert "this job is preempted" in log.read_text()
    assert cluster.facts(preempted)["JobState"] == "COMPLETED"
    assert cluster.facts(killed)["JobState"] == "FAILED"
    complete = {task for task in range(SEEDS * SHARDS) if len(painted(out, task)) == 4}
    assert complete == set(range(SEEDS * SHARDS)) - {task_of(killed)}

    there = {path: path.stat().st_mtime_ns for path in out.glob("*/generations/part-*")}
    finish(start(cluster, out, *SWEEP), out)
    assert len(there) < len(list(out.glob("*/generations/part-*"))) == SEEDS * PARTS
    assert {path: path.stat().st_mtime_ns for path in there} == there
    for stage in ("score", "report"):
        finish(start(cluster, out, f"stage={stage}", *ALL_SEEDS), out)
    finish(undisturbed, peaceful)

    assert {s: folder.name for s, folder in runs(out).items()} == {
        s: folder.name for s, folder in runs(peaceful).items()
    }
    assert len(pictures(out)) == SEEDS * TRIPLETS
    assert pictures(out) == pictures(peaceful)
    reports = [folder / "reports" / "sweep" for folder in (out, peaceful)]
    scores, expected = (pd.read_parquet(report / "scores.parquet") for report in reports)
    # Bit for bit: no tolerance, and a NaN only where the other has one.
    pd.testing.assert_frame_equal(scores, expected, check_exact=True)
    assert len(scores) == SEEDS * TRIPLETS * scores["metric"].nunique()
    tables = [(report / "table.csv").read_bytes() for report in reports]
    assert tables[0] == tables[1]
    assert not list(out.glob("**/quarantine.jsonl"))
    assert not list(out.glob("**/*.broken"))


def test_a_mistake_in_a_job_is_told_in_one_line_by_the_launcher(
    cluster: Slurm, tmp_path: Path
) -> None:
    """And without an accounting of Slurm's, which would tell that the job is gone."""
    out = tmp_path / "out"
    launcher = ("-m", "hydra/launcher=slurm_cpu", "hydra.launcher.mem_gb=1")
    process = start(cluster, out, *launcher, "seed=0", "stage=paint")
    assert process.wait(PATIENCE) == 2
    lines = Path(f"{out}.log").read_text().splitlines()
    assert lines[-1].startswith("error: stage=paint: choose one of")
    assert "Traceback" not in "\n".join(lines)
