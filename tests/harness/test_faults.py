"""Kills and damage on whole runs; `scripts/faults.py` has more of them, on the command line."""

from __future__ import annotations

import io
import logging
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from profi.harness.experiment import run
from profi.harness.runs import Command
from profi.settings import (
    AblationConfig,
    ClipConfig,
    Config,
    DataConfig,
    MetricConfig,
    ModelConfig,
    Sampling,
)
from profi.store.generations import read_generations
from profi.store.scores import read_scores

REPOSITORY = Path(__file__).parents[2]
TRIPLETS = 8

# Imports once and forks, so that the kills hit the run and not its imports. Prints how many did.
NURSERY = """
import os, random, signal, sys, time
sys.path.insert(0, "tests/harness")
from test_faults import carry_out
moments, landed = random.Random(1), 0
for stage in ("generate", "score"):
    for doomed in (True, True, False):
        child = os.fork()
        if child == 0:
            try:
                carry_out(sys.argv[1], stage)
                os._exit(0)
            finally:
                os._exit(1)
        if doomed:
            time.sleep(moments.uniform(0.1, 1.2))
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, -signal.SIGKILL), code
        landed += code != 0
print(landed)
"""


def carry_out(out: str, stage: str) -> None:
    """One stage of a run of many parts on the embedded world."""
    config = Config(
        model=ModelConfig(device="cpu", long_side=64, pad_multiple=32),
        ablation=AblationConfig("profi"),
        data=DataConfig(limit=TRIPLETS),
        metric=MetricConfig(
            metrics=["known_region_psnr", "clip_score"], clip=ClipConfig("shipped:cpu/clip")
        ),
        sampling=Sampling(num_inference_steps=2),
        part_size=1,
        stage=stage,
        out=out,
    )
    run(Command(config, "run.py here", "a: 1\n"), Console(file=io.StringIO()))


def everything(out: Path) -> tuple[str, list[tuple[str, bytes]], str]:
    """A run's id, pictures and scores; every bit shows."""
    (folder,) = (path.parent for path in out.glob("*/run.json"))
    pictures = [(item.triplet_id, item.image) for item in read_generations(folder / "generations")]
    return folder.name, pictures, repr(read_scores(sorted((folder / "scores").iterdir())).values)


def test_a_run_that_is_killed_again_and_again_comes_out_the_same(tmp_path: Path) -> None:
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", NURSERY, str(tmp_path / "killed")],
        cwd=REPOSITORY,
        env=one_thread,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1
    for stage in ("generate", "score"):
        carry_out(str(tmp_path / "alone"), stage)
    killed, alone = everything(tmp_path / "killed"), everything(tmp_path / "alone")
    assert len(alone[1]) == TRIPLETS
    assert killed == alone
    assert not list(tmp_path.rglob("*.broken"))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def flip_a_picture(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def flip_a_score(path: Path) -> None:
    content = bytearray(path.read_bytes())
    value = struct.pack("<d", pq.read_table(path)["value"][0].as_py())
    content[content.index(value)] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("store", "damage"),
    [
        ("generations", cut_short),
        ("generations", flip_a_picture),
        ("scores/clip_score-*", cut_short),
        ("scores/clip_score-*", flip_a_score),
    ],
)
def test_a_damaged_part_is_logged_moved_aside_and_made_again(
    settings: Callable[..., Config],
    store: str,
    damage: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    logging.getLogger("profi").propagate = True
    config = settings()
    command = Command(config, "run.py here", "a: 1\n")
    console = Console(file=io.StringIO())
    run(command, console)
    out = Path(config.out)
    before = everything(out)
    (victim,) = out.glob(f"*/{store}/part-00001.parquet")
    damage(victim)
    caplog.clear()
    run(command, console)
    assert f"{victim} is broken" in caplog.text
    assert [path.name for path in out.rglob("*.broken")] == ["part-00001.parquet.broken"]
    assert everything(out) == before
    # And once more there is nothing to do.
    caplog.clear()
    run(command, console)
    assert "broken" not in caplog.text
