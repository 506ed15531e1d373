from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from profi.harness.build_metrics import load_metrics, required_identity
from profi.harness.experiment import paint_and_score
from profi.harness.report import _cost
from profi.harness.run_folder import RunFolder
from profi.harness.run_status import Entry, RunStatus, latest_scores
from profi.harness.runs import Command
from profi.metrics import Sample
from profi.metrics.aesthetic import AestheticPredictor
from profi.settings import (
    AccuracyConfig,
    AestheticConfig,
    ClipConfig,
    Config,
    MetricConfig,
    PickConfig,
)
from profi.settings.evaluation import OURS, RELEASED
from profi.store.scores import IDENTITY, scores_folder_name, write_scores
from profi.types import UserError


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> MetricConfig:
    """Every model that needs no extra, tiny."""
    from tiny_models import save_clip, save_rtdetr

    folder = tmp_path_factory.mktemp("files")
    clip = str(save_clip(folder / "clip"))
    torch.manual_seed(0)
    AestheticPredictor(12, (8, 4)).save_pretrained(folder / "aesthetic")
    return MetricConfig(
        metrics=["pick_score", "accuracy_transformers", "accuracy", "aesthetic", "clip_score"],
        clip=ClipConfig(clip),
        accuracy=AccuracyConfig(path=str(save_rtdetr(folder / "rtdetr"))),
        aesthetic=AestheticConfig(str(folder / "aesthetic"), clip),
        pick=PickConfig(clip),
    )


def test_the_wanted_metrics_in_the_wanted_order(files: MetricConfig) -> None:
    metrics = load_metrics(files, "cpu", OURS)
    assert [metric.name for metric in metrics] == files.metrics
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    sample = Sample(image, np.ones((40, 40), bool), "dog")
    values = {metric.name: metric([sample])[0] for metric in metrics}
    assert not any(math.isnan(value) for value in values.values())
    # One detector under two names.
    assert values["accuracy"] == values["accuracy_transformers"]
    assert len({str(metric.identity) for metric in metrics}) == 4


@pytest.mark.parametrize(
    ("metric", "named"),
    [
        ("clip_score", r"metric\.clip\.path is not set"),
        ("accuracy", r"metric\.accuracy\.path is not set"),
        ("accuracy_mmdet", r"metric\.accuracy\.checkpoint is not set"),
        ("aesthetic", r"metric\.aesthetic\.path is not set"),
        ("pick_score", r"metric\.pick\.path is not set"),
        ("known_region_lpips", r"metric\.lpips\.path is not set"),
    ],
)
def test_what_is_not_set_is_named(metric: str, named: str) -> None:
    with pytest.raises(UserError, match=named) as caught:
        load_metrics(MetricConfig(metrics=[metric]), "cpu", OURS)
    assert "\n" not in str(caught.value)


def test_a_backend_that_is_not_installed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rtmdet.pth").write_bytes(b"")
    accuracy = AccuracyConfig(
        backend="mmdet", checkpoint=str(tmp_path / "rtmdet.pth"), sha256="78e30dcc"
    )
    mmdet = MetricConfig(metrics=["accuracy"], accuracy=accuracy)
    clip = MetricConfig(metrics=["clip_score"], clip=ClipConfig("open_clip:ViT-B-32/openai"))
    key = r"metric\.clip\.path=open_clip:ViT-B-32/openai"
    for module, config, remedy in (
        ("mmdet", mmdet, r"make mmdet.*metric\.accuracy\.backend=transformers"),
        ("open_clip", clip, rf"{key}.*install the extra clip"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(UserError, match=remedy) as caught:
            load_metrics(config, "cpu", OURS)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(find_spec("mmdet") is not None, reason="MMDetection is installed")
@pytest.mark.parametrize("backend", ["mmdet", "transformers"])
def test_a_package_that_lacks_is_said_before_data_are_read(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*arguments: object) -> None:
        raise AssertionError("the data are read")

    monkeypatch.setattr("profi.harness.experiment._samples", read)
    metric = MetricConfig(metrics=["accuracy"], accuracy=AccuracyConfig(backend=backend))
    command = Command(Config(metric=metric, out=str(tmp_path)), "", "")
    expected = (UserError, "make mmdet") if backend == "mmdet" else (AssertionError, "are read")
    with pytest.raises(expected[0], match=expected[1]):
        paint_and_score(command, Console())


@pytest.mark.skipif(find_spec("mmdet") is not None, reason="MMDetection is installed")
def test_the_papers_metrics_name_what_is_missing(settings: Callable[..., Config]) -> None:
    """Without MMDetection the paper's accuracy is refused before anything is downloaded."""
    accuracy = AccuracyConfig(
        backend="mmdet", checkpoint="https://example.invalid/x.pth", sha256="0" * 8
    )
    with pytest.raises(UserError, match="MMDetection"):
        load_metrics(MetricConfig(metrics=["accuracy"], accuracy=accuracy), "cpu", OURS)


def test_the_report_takes_the_scores_of_its_own_detector(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    detectors = {
        "transformers": {"type": "rt_detr", "weights": "a"},
        "bgr": {"backend": "mmdet", "channels": "bgr"},
        "rgb": {"backend": "mmdet", "channels": "rgb_as_bgr"},
    }
    identities = {
        name: {"threshold": 0.3, "detector": detector, "box": box}
        for name, detector, box in zip(
            detectors,
            detectors.values(),
            ("painted_mask", "painted_mask", "bicubic_mask"),
            strict=True,
        )
    }
    for identity in identities.values():
        folder = run.scores / scores_folder_name("accuracy", identity)
        write_scores(folder, 0, [], "source")
        (folder / IDENTITY).write_text(json.dumps(identity))
    entry = Entry(run, "m", "base", "paper", 0)
    config = MetricConfig(metrics=["accuracy"])
    for name, accuracy, evaluation in (
        ("transformers", AccuracyConfig(), OURS),
        ("bgr", AccuracyConfig(backend="mmdet"), OURS),
        ("rgb", AccuracyConfig(backend="mmdet"), RELEASED),
    ):
        expected = required_identity(replace(config, accuracy=accuracy), evaluation)
        found = latest_scores([entry], ["accuracy"], expected)
        assert found == {"accuracy": scores_folder_name("accuracy", identities[name])}
    expected = required_identity(replace(config, accuracy=AccuracyConfig(threshold=0.4)), OURS)
    with pytest.raises(UserError, match=r"no run has accuracy with threshold=0\.4"):
        latest_scores([entry], ["accuracy"], expected)


def test_the_cost_of_a_row_is_a_mean_time_and_the_highest_peak() -> None:
    def status(seconds: tuple[float, ...], peaks: tuple[float, ...]) -> RunStatus:
        return RunStatus({}, {}, {}, seconds, peaks, (), ())

    runs = [status((1.0, 2.0), (2.0**30, 3 * 2.0**30)), status((6.0,), (math.nan,))]
    assert _cost(runs) == "3.00 s per image, peak memory 3.00 GiB"
    assert _cost(runs[1:]) == "6.00 s per image"
    assert _cost([status((), ())]) == "nothing painted"
