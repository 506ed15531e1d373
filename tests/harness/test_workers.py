"""Several processes of one machine share the work of a command."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pandas as pd
import psutil
import pytest
from rich.console import Console

from profi.harness import workers
from profi.harness.build_data import load_triplets
from profi.harness.experiment import run
from profi.harness.runs import Command, Samples, runs_of
from profi.harness.workers import processes_for
from profi.settings import Config, Sampling
from profi.settings.command import LoggerConfig
from profi.store.generations import read_generations
from profi.types import MissingRowError, UserError

Settings = Callable[..., Config]


def started(config: Config, console: Console | None = None) -> None:
    run(Command(config, "run.py here", "a: 1\n"), console or Console(quiet=True))


def painted(out: Path) -> dict[tuple[str, str], bytes]:
    return {
        (folder.parent.name, item.triplet_id): item.image
        for folder in out.glob("*/generations")
        for item in read_generations(folder)
    }


def scores(out: Path) -> pd.DataFrame:
    (path,) = out.glob("reports/*/scores.parquet")
    return pd.read_parquet(path)


def one_thread(config: Config) -> Config:
    return replace(config, model=replace(config.model, threads=1))


def test_two_processes_paint_and_score_what_one_does_bit_for_bit(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alone, together = (
        one_thread(
            settings(
                ablations=["base", "profi"],
                seeds=[0, 1],
                workers=count,
                out=str(tmp_path / count),
                name="x",
            )
        )
        for count in ("1", "2")
    )
    started(alone)
    with caplog.at_level(logging.INFO, "profi"):
        started(together)
    assert painted(tmp_path / "1") == painted(tmp_path / "2")
    assert len(painted(tmp_path / "2")) == 2 * 2 * 10
    pd.testing.assert_frame_equal(scores(tmp_path / "1"), scores(tmp_path / "2"), check_exact=True)
    said = "\n".join(caplog.messages)
    assert said.count("tiny base: 20 painted, 0 already there, 0 failed") == 1
    # A row's numbers come before the next row is done.
    assert said.index("tiny, base: CLIP score") < said.index("tiny profi: 20 painted")


def test_a_shard_is_divided_again(settings: Settings, tmp_path: Path) -> None:
    config = one_thread(settings(part_size=2, workers="2", stage="generate", name="x"))
    for shard in ("1/2", "2/2"):
        started(replace(config, shard=shard))
        if shard == "1/2":
            first = painted(tmp_path / "out")
            assert 0 < len(first) < 10
    assert len(painted(tmp_path / "out")) == 10


def test_a_share_that_only_fails_ends_nothing(settings: Settings, tmp_path: Path) -> None:
    config = one_thread(settings(part_size=9, workers="2", stage="generate", name="x"))
    manifest = load_triplets(config.data, Console(quiet=True), config.evaluation, None)[0]
    # The second process has one picture alone.
    broken = Path(config.data.root) / manifest[9].file_name
    kept = broken.rename(tmp_path / "kept")
    try:
        started(config)
        others = [t for t in manifest if t.file_name != manifest[9].file_name]
        assert len(painted(tmp_path / "out")) == len(others)
    finally:
        kept.rename(broken)


def test_an_error_of_a_process_is_raised_once(settings: Settings, tmp_path: Path) -> None:
    config = settings(workers="2")
    config = replace(config, model=replace(config.model, path=str(tmp_path / "nothing")))
    with pytest.raises(MissingRowError, match="nothing"):
        started(config)


def test_a_killed_process_ends_the_command_with_one_line_and_it_resumes(
    settings: Settings, tmp_path: Path
) -> None:
    config = one_thread(
        settings(workers="2", part_size=1, sampling=Sampling(num_inference_steps=4), name="x")
    )
    me = psutil.Process()
    before = set(me.children())

    def kill_when_painted() -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end and not painted(tmp_path / "out"):
            time.sleep(0.01)
        mine = [
            p
            for p in me.children()
            if p not in before and "resource_tracker" not in str(p.cmdline())
        ]
        os.kill(mine[0].pid, signal.SIGKILL)

    thread = threading.Thread(target=kill_when_painted)
    thread.start()
    with pytest.raises(UserError, match="ended by SIGKILL, perhaps for lack of memory"):
        started(config)
    thread.join()
    assert not [p for p in set(me.children()) - before if "spawn_main" in str(p.cmdline())]
    started(config)
    assert len(painted(tmp_path / "out")) == 10


def test_the_bar_counts_the_images_of_a_row_over_all_processes(settings: Settings) -> None:
    file = StringIO()
    console = Console(file=file, force_terminal=True, width=100)
    started(one_thread(settings(workers="2", stage="generate", seeds=[0, 1])), console)
    assert "tiny profi" in file.getvalue()
    assert "20/20" in file.getvalue()


def test_how_many_processes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 6)
    monkeypatch.delenv(workers.QUEUED, raising=False)
    config = settings()
    assert processes_for(config, None) == 1  # the model says nothing of its threads
    config = one_thread(config)
    assert processes_for(config, None) == 6
    assert processes_for(replace(config, model=replace(config.model, threads=4)), None) == 1
    assert processes_for(replace(config, workers="3"), None) == 3
    assert processes_for(replace(config, stage="report"), None) == 1
    triplets = Samples(tuple(range(9)), "")  # type: ignore[arg-type]  # only counted
    assert processes_for(config, triplets) == 3  # parts of 4
    assert processes_for(replace(config, shard="1/2"), triplets) == 2
    monkeypatch.setenv(workers.QUEUED, "slurm")
    assert processes_for(config, None) == 1


def test_every_process_sees_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for number in range(3):
        monkeypatch.setenv(workers.VISIBLE, "4,GPU-8f,7")
        workers.use_own_gpu(number)
        seen.append(os.environ[workers.VISIBLE])
    assert seen == ["4", "GPU-8f", "7"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv(workers.VISIBLE)
    workers.use_own_gpu(1)
    assert os.environ[workers.VISIBLE] == "1"


def test_a_wrong_number_of_processes_is_refused(settings: Settings) -> None:
    for value in ("0", "-1", "many", "1.5"):
        with pytest.raises(UserError, match=f"workers={value}: write a number"):
            settings(workers=value)


def test_the_number_of_processes_is_no_part_of_a_run_and_its_threads_are(
    settings: Settings,
) -> None:
    config = settings()

    def pixels(config: Config) -> object:
        return runs_of(Command(config, "", ""))[0].pixels

    assert pixels(config) == pixels(
        replace(config, workers="2", logger=LoggerConfig(level="debug"))
    )
    assert pixels(config) != pixels(one_thread(config))
