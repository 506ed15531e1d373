"""The launchers that need no Slurm."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from profi.cli.schema import register

pytestmark = pytest.mark.slurm

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("launcher", "executor", "gpus", "minutes"),
    [
        ("slurm", "SlurmLauncher", 1, 240),
        ("slurm_long", "SlurmLauncher", 1, 1440),
        ("slurm_cpu", "SlurmLauncher", None, 60),
        ("local_gpus", "LocalLauncher", None, 10080),
    ],
)
def test_every_launcher_composes(
    launcher: str, executor: str, gpus: int | None, minutes: int
) -> None:
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(REPOSITORY / "conf")):
        config = compose("config", [f"hydra/launcher={launcher}"], return_hydra_config=True)
    chosen = config.hydra.launcher
    assert chosen._target_.endswith(executor)
    assert (chosen.gpus_per_node, chosen.timeout_min) == (gpus, minutes)
    # submitit takes every signal for a time-out where less than ten minutes are asked for.
    assert chosen.timeout_min > 10
    if executor == "SlurmLauncher":
        assert chosen.additional_parameters.requeue
        assert chosen.max_num_timeout > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_every_local_job_is_given_a_gpu_of_its_own(tmp_path: Path) -> None:
    """Without a GPU each job refuses the one it was given, and the launcher tells the first."""
    done = subprocess.run(
        [sys.executable, "run.py", "-m", "hydra/launcher=local_gpus", "stage=generate",
         "data.limit=2", "shard=1/2,2/2", f"out={tmp_path}"],
        cwd=REPOSITORY,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: CUDA_VISIBLE_DEVICES=0: ")
    assert "Traceback" not in done.stderr
    results = sorted(tmp_path.glob(".hydra-logs/*/*_result.pkl"))
    told = sorted(str(pickle.loads(path.read_bytes())[1]._return_value) for path in results)
    assert [text.partition(":")[0] for text in told] == [
        "CUDA_VISIBLE_DEVICES=0",
        "CUDA_VISIBLE_DEVICES=1",
    ]
