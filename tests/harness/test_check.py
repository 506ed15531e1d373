"""The stages fetch and check: everything tried, every failure told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from profi.harness.experiment import run
from profi.harness.runs import Command
from profi.settings import ClipConfig, Config, LoggerConfig
from profi.types import UserError

Settings = Callable[..., Config]


def lines(config: Config, caplog: pytest.LogCaptureFixture) -> list[str]:
    with caplog.at_level(logging.INFO, "profi"):
        run(Command(config, "run.py here", "a: 1\n"), Console(quiet=True))
    return caplog.messages


def test_all_rows_and_metrics_are_tried_and_nothing_is_stored(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    config = settings(ablations=["base", "profi"], seeds=[0, 1, 2], stage="check")
    told = lines(config, caplog)
    assert "ok      data test: 10 triplets" in told
    assert "ok      model tiny: 2 row(s) loaded" in told
    for row in ("base", "profi"):
        (painting,) = [line for line in told if line.startswith(f"ok      painting tiny {row}: ")]
        assert "for 30, one at a time" in painting
        for metric in ("clip_score", "known_region_psnr"):
            assert any(line.startswith(f"ok      {metric} of tiny {row}: ") for line in told)
    assert "GB needed" in told[-1]
    assert not Path(config.out).exists()


def test_one_failure_does_not_hide_the_next(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", "/nowhere")
    config = settings(stage="check", logger=LoggerConfig(name="wandb"))
    config = replace(
        config,
        model=replace(config.model, path="/no/model"),
        metric=replace(config.metric, clip=ClipConfig("/no/clip")),
    )
    with pytest.raises(UserError, match=r"3 of \d checks failed: metric clip_score, W&B, model"):
        lines(config, caplog)
    assert sum(line.startswith("failed ") for line in caplog.messages) == 3
    assert "ok      metric known_region_psnr: loaded" in caplog.messages


def test_too_little_room_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=3)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"1 of 9 checks failed: room in .*out"):
        run(Command(settings(stage="check"), "run.py", "a: 1\n"), Console(quiet=True))


def test_fetch_loads_and_paints_nothing(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    told = lines(settings(stage="fetch"), caplog)
    assert any(line.startswith("ok      model tiny") for line in told)
    assert not any("painting" in line or "room" in line for line in told)
