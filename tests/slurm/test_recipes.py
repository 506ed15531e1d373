"""The recipes of scripts/cluster, run as they are, in small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from cluster import Slurm, wait_for
from stored import pictures, scores

pytestmark = pytest.mark.slurm

REPOSITORY = Path(__file__).parents[2]
RECIPES = REPOSITORY / "scripts" / "cluster"
SMALL = ("data.limit=4", "part_size=1", "sampling.num_inference_steps=2")


def submit(
    logs: Path,
    out: Path,
    environment: dict[str, str],
    *arguments: str,
    options: tuple[str, ...] = (),
) -> str:
    """The id of an array of two tasks, one per shard."""
    done = subprocess.run(
        ["sbatch", "--parsable", "--array=1-2", f"--output={logs}-%a.log", *options,
         RECIPES / "array.sbatch", "ablation=base", "seeds=[0,1]", *SMALL, f"out={out}",
         *arguments],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_table_2_and_the_array_paint_the_same(cluster: Slurm, tmp_path: Path) -> None:
    swept, array = tmp_path / "swept", tmp_path / "array"
    environment = {
        **cluster.environment,
        "PYTHON": sys.executable,
        "QUEUE": "hydra/launcher=slurm_cpu hydra.launcher.mem_gb=1",
        "SHARDS": "2",
        "SEEDS": "0,1",
        "ROWS": "base",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    painting = submit(tmp_path / "paint", array, environment)
    submit(
        tmp_path / "score", array, environment, "stage=score",
        options=(f"--dependency=aftercorr:{painting}", "--kill-on-invalid-dep=yes"),
    )  # fmt: skip
    wait_for("both arrays end", lambda: not cluster.jobs(), 400, each=0.5)
    done = subprocess.run(
        [RECIPES / "table2.sh", *SMALL, f"out={swept}"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(pictures(swept)) == 2 * 4
    assert pictures(array) == pictures(swept)
    # The tasks that followed the painting ones left nothing to score, and the same scores.
    pd.testing.assert_frame_equal(scores(array), scores(swept), check_exact=True)
    table = pd.read_parquet(swept / "reports" / "table2" / "scores.parquet")
    assert len(table) == 2 * 4 * table["metric"].nunique()
