"""The boundary: whatever a logger does, the runs are the same and it is logged once."""

from __future__ import annotations

import io
import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from experiment_calls import folder_of
from rich.console import Console

from profi.harness import experiment, work
from profi.harness.experiment import run
from profi.harness.run_log import RunIdentity, RunLogs
from profi.harness.runs import Command
from profi.settings import Config, LoggerConfig, ReportConfig
from profi.store.parts import part_path
from profi.types import UserError


class RecordedCalls:
    """A logger that remembers, and raises where the test asks for it."""

    def __init__(self, raises_in: str = "", error: BaseException | None = None) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        self.raises_in, self.error = raises_in, error or RuntimeError("no\nserver")

    def opener(self, identity: RunIdentity) -> _One:
        self.note("open", identity.run_id, identity)
        return _One(self, identity.run_id)

    def note(self, what: str, run_id: str, value: Any) -> None:
        self.calls.append((what, run_id, value))
        if what == self.raises_in:
            raise self.error


class _One:
    def __init__(self, recorded: RecordedCalls, run_id: str) -> None:
        self.recorded, self.run_id = recorded, run_id

    def progress(self, stage: str, values: Mapping[str, float]) -> None:
        self.recorded.note("progress", self.run_id, (stage, dict(values)))

    def results(self, summary: Mapping[str, float], pictures: Any) -> None:
        self.recorded.note("results", self.run_id, (dict(summary), pictures))

    def finish(self, succeeded: bool) -> None:
        self.recorded.note("finish", self.run_id, succeeded)


def go(config: Config) -> None:
    run(Command(config, "run.py here", "a: 1\n"), Console(file=io.StringIO(), width=160))


def small(config: Config, **changes: Any) -> Config:
    """Of four triplets, reported without a gallery."""
    few = replace(config.data, limit=4)
    return replace(config, data=few, report=ReportConfig(gallery=0), **changes)


def listening(monkeypatch: pytest.MonkeyPatch, recorded: RecordedCalls) -> None:
    for module in (experiment, work):
        monkeypatch.setattr(module, "run_logs", lambda *_: RunLogs(recorded.opener))


def test_a_run_is_logged_from_its_start_to_its_scores(
    settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = RecordedCalls()
    listening(monkeypatch, recorded)
    config = settings(ablations=["base", "profi"], seeds=[3], name="table")
    go(config)
    ids = [folder_of(config, name, 3).run_id for name in ("base", "profi")]
    assert [run_id for what, run_id, _ in recorded.calls if what == "open"] == ids
    mine = [(what, value) for what, run_id, value in recorded.calls if run_id == ids[1]]
    assert [what for what, _ in mine] == [
        "open",
        *["progress"] * 6,
        "results",
        "finish",
    ]
    identity = mine[0][1]
    assert (identity.group, identity.name) == ("table (released)", "profi seed 3")
    assert (identity.config["ablation"], identity.config["seed"]) == ("profi", 3)
    assert identity.config["settings"]["ablation"]["name"] == "profi"
    assert identity.config["settings"]["seed"] == 3
    assert identity.config["pixels"]["seed"] == 3
    assert identity.config["environment"]["packages"]["torch"]
    # 10 images in parts of 4.
    for stage, steps in (("paint", mine[1:4]), ("score", mine[4:7])):
        assert [value[0] for _, value in steps] == [stage] * 3
        assert [value[1]["images"] for _, value in steps] == pytest.approx([4, 8, 10])
    summary, pictures = mine[7][1]
    report = pd.read_parquet(Path(config.out) / "reports" / "table" / "scores.parquet")
    means = report[report["ablation"] == "profi"].groupby("metric")["value"].mean()
    for metric, mean in means.items():
        assert summary[metric] == pytest.approx(mean)
        assert summary[f"{metric}_low"] < mean < summary[f"{metric}_high"]
    assert (summary["images_painted"], summary["images_missing"]) == (10, 0)
    assert (summary["scores_missing"], summary["scores_nan"]) == (0, 0)
    assert len(pictures) == 10
    assert all(len(item.outputs) == 1 and item.masked for item in pictures)
    assert mine[8][1] is True
    base = next(
        value for what, run_id, value in recorded.calls if (what, run_id) == ("results", ids[0])
    )
    # The same triplets of every run, so that they can be compared.
    assert [item.triplet_id for item in base[1]] == [item.triplet_id for item in pictures]


def test_a_resumed_run_is_logged_as_the_same_with_all_its_images(
    settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(stage="generate")
    go(config)
    folder = folder_of(config, "profi", 0)
    part_path(folder.generations, 1).unlink()
    recorded = RecordedCalls()
    listening(monkeypatch, recorded)
    go(config)
    assert {run_id for _, run_id, _ in recorded.calls} == {folder.run_id}
    steps = [value[1]["images"] for what, _, value in recorded.calls if what == "progress"]
    # Four were there before the part that was painted again, two come after it.
    assert steps == pytest.approx([8])


def test_a_report_tells_what_other_commands_scored(
    settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(settings(ablations=["base", "profi"], seeds=[0]))
    go(config)
    recorded = RecordedCalls()
    listening(monkeypatch, recorded)
    go(replace(config, stage="report", logger=LoggerConfig(pictures=3)))
    assert [what for what, _, _ in recorded.calls] == ["open", "results", "finish"] * 2
    assert all(len(value[1]) == 3 for what, _, value in recorded.calls if what == "results")


@pytest.mark.parametrize("where", ["open", "progress", "results", "finish"])
def test_a_failing_logger_stops_nothing_and_is_logged_once(
    settings: Callable[..., Config],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    recorded = RecordedCalls(raises_in=where)
    config = small(settings(ablations=["base", "profi"], seeds=[0], name="x"))
    listening(monkeypatch, recorded)
    with caplog.at_level(logging.WARNING, logger="profi"):
        go(config)
    (warning,) = [r for r in caplog.records if "logger failed" in r.message]
    assert "\n" not in warning.message
    assert "no server" in warning.message
    # Nothing more is asked of it, in none of the runs.
    assert recorded.calls[-1][0] == where
    assert [what for what, _, _ in recorded.calls].count(where) == 1
    scores = pd.read_parquet(Path(config.out) / "reports" / "x" / "scores.parquet")
    assert len(scores) == 2 * 4 * 2


def test_a_run_that_is_broken_off_is_logged_as_failed_and_the_error_goes_on(
    settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = RecordedCalls()
    listening(monkeypatch, recorded)

    def broken(*_: object) -> None:
        raise UserError("all samples failed")

    monkeypatch.setattr(work, "generate", broken)
    with pytest.raises(UserError, match="all samples failed"):
        go(settings(stage="generate"))
    assert [(what, value) for what, _, value in recorded.calls][1:] == [("finish", False)]


def test_an_interrupt_is_no_failure_of_the_logger(
    settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    listening(monkeypatch, RecordedCalls(raises_in="progress", error=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        go(settings(stage="generate"))


def test_without_wandb_the_run_goes_on(
    settings: Callable[..., Config],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    logger = LoggerConfig(name="wandb")
    config = small(settings(logger=logger, ablations=["base", "profi"], seeds=[0]))
    with caplog.at_level(logging.WARNING, logger="profi"):
        go(config)
    (warning,) = [r.message for r in caplog.records if "logger failed" in r.message]
    assert "pip install -c constraints.txt -e '.[wandb]'" in warning
    assert (folder_of(config, "base", 0).root / "scores").is_dir()


def test_of_several_shards_the_first_alone_tells(
    settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    from profi.harness.run_log import run_logs

    for shard, logs_anything in (("1/1", True), ("1/12", True), ("2/12", False), ("11/12", False)):
        config = settings(logger=LoggerConfig(name="wandb"), shard=shard)
        logs = run_logs(config, Path(config.out))
        with logs.of(RunIdentity("a", "b", "c", {})):
            pass
        # Broken, since there is no wandb, is whoever tried.
        assert logs.broken is logs_anything
    assert run_logs(settings(), Path("x"))._opener is None


@pytest.mark.usefixtures("wandb_home")
def test_real_wandb_offline_end_to_end(
    settings: Callable[..., Config], load_script: Callable[[str], ModuleType]
) -> None:
    pytest.importorskip("wandb")
    from wandb_files import sessions

    logger = LoggerConfig(name="wandb", mode="offline", project="tests", pictures=4)
    config = settings(ablations=["base", "profi"], seeds=[0], name="table", logger=logger)
    go(replace(config, ablations=["base"]))
    folder = folder_of(config, "base", 0)
    part_path(folder.generations, 1).unlink()
    time.sleep(1.1)  # W&B names a session's folder by the second.
    go(config)
    logged = sessions(Path(config.out))
    assert [s.run_id for s in logged if s.name == "base seed 0"] == [folder.run_id] * 2
    assert {s.run_id for s in logged if s.name == "profi seed 0"} == {
        folder_of(config, "profi", 0).run_id
    }
    assert {(s.group, s.project, s.exit_code) for s in logged} == {("table (released)", "tests", 0)}
    first, again = (s for s in logged if s.run_id == folder.run_id)
    assert first.over("paint/images") == pytest.approx([4, 8, 10])
    assert again.over("paint/images") == pytest.approx([8])
    scores = pd.read_parquet(Path(config.out) / "reports" / "table" / "scores.parquet")
    means = scores.groupby(["ablation", "metric"])["value"].mean()
    for session in (first, again):
        assert session.summary["clip_score"] == pytest.approx(means["base", "clip_score"])
        assert session.over("pictures")[0]["nrows"] == 4
        assert session.config["settings"]["sampling"]["num_inference_steps"] == 2
    assert first.config["pixels"] == again.config["pixels"]
    # What the dashboard shows is there.
    dashboard = load_script("wandb_report")
    report = dashboard.build("e", "tests", first.group, ["clip_score", "known_region_psnr"])
    (columns,) = {
        tuple(b.runsets[0].pinned_columns) for b in report.blocks if hasattr(b, "runsets")
    }
    assert {name.removeprefix("summary:") for name in columns} <= first.summary.keys()
    plots = [p for b in report.blocks for p in getattr(b, "panels", []) if hasattr(p, "y")]
    keys = {name for plot in plots for name in (plot.x, *plot.y)}
    assert keys == {f"{s}/{n}" for s in ("paint", "score") for n in ("images", "images_per_second")}
    assert all(first.over(key) for key in keys)
    assert dashboard.ABLATION in first.config


@pytest.mark.usefixtures("wandb_home")
def test_without_a_key_nobody_is_asked_and_the_run_goes_on(
    settings: Callable[..., Config],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On a terminal, where W&B would ask for a key and wait."""
    pytest.importorskip("wandb")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)

    def asked(*_: object) -> str:
        raise AssertionError("the keyboard was asked")

    monkeypatch.setattr("builtins.input", asked)
    config = small(settings(logger=LoggerConfig(name="wandb"), stage="generate"))
    with caplog.at_level(logging.WARNING, logger="profi"):
        go(config)
    (warning,) = [r.message for r in caplog.records if "logger failed" in r.message]
    assert "wandb login" in warning
    assert "logger.mode=offline" in warning
    assert folder_of(config, "profi", 0).generations.is_dir()


@pytest.mark.usefixtures("wandb_home")
def test_a_server_that_does_not_answer_is_given_up_and_the_run_goes_on(
    settings: Callable[..., Config],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setattr("profi.reports.wandb_log.PATIENCE", 3.0)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    # Nobody listens on this port.
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    # Read anew, with this address.
    wandb.teardown()
    config = small(settings(logger=LoggerConfig(name="wandb"), stage="generate"))
    with caplog.at_level(logging.WARNING, logger="profi"):
        go(config)
    wandb.teardown()
    (warning,) = [r.message for r in caplog.records if "logger failed" in r.message]
    assert "127.0.0.1:9" in warning
    assert folder_of(config, "profi", 0).generations.is_dir()
