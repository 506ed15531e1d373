"""Two jobs that do the same work at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from profi.harness.experiment import Command, run
from profi.harness.run_folder import RunFolder
from profi.settings import AblationConfig, Config, DataConfig, ModelConfig, Sampling
from profi.store.generations import read_generations
from profi.store.parts import read_lines

REPOSITORY = Path(__file__).parents[2]
TRIPLETS = 8

# Both begin when both have loaded everything.
JOB = """
import sys, time
from pathlib import Path
sys.path.insert(0, "tests/harness")
from test_two_jobs import paint
out, name = Path(sys.argv[1]), sys.argv[2]
(out / f"ready-{name}").touch()
while len(list(out.glob("ready-*"))) < 2:
    time.sleep(0.001)
paint(out / "runs")
"""


def paint(out: Path) -> None:
    """A part for each triplet, so that there is much to collide over."""
    config = Config(
        model=ModelConfig(device="cpu", long_side=64, pad_multiple=32),
        ablation=AblationConfig("base"),
        data=DataConfig(limit=TRIPLETS),
        sampling=Sampling(num_inference_steps=2),
        part_size=1,
        stage="generate",
        out=str(out),
    )
    run(Command(config, "run.py here", "a: 1\n"), Console(file=sys.stderr))


def pictures(folder: Path) -> list[tuple[str, int, bytes]]:
    return [(g.triplet_id, g.seed, g.image) for g in read_generations(folder / "generations")]


def test_two_jobs_on_the_same_shard_lose_and_double_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", JOB, str(tmp_path)]
    # As many as the test itself has: rounding depends on it.
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    jobs = [
        subprocess.Popen(
            [*command, name], cwd=REPOSITORY, env=one_thread, stderr=subprocess.PIPE, text=True
        )
        for name in ("a", "b")
    ]
    errors = [job.communicate(timeout=120)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], errors
    paint(tmp_path / "alone")
    (shared,) = (tmp_path / "runs").iterdir()
    (alone,) = (tmp_path / "alone").iterdir()
    assert shared.name == alone.name
    assert len(pictures(shared)) == TRIPLETS
    assert pictures(shared) == pictures(alone)
    assert len(read_lines(shared / "starts.jsonl")) == 2
    assert not RunFolder(shared).quarantine.exists()
    names = {path.name for path in shared.rglob("*")}
    assert not [name for name in names if name.endswith((".tmp", ".broken"))]
