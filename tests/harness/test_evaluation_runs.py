"""The evaluation from the settings to the stores: what it changes, and what it must not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from experiment_calls import go, pictures, resolved, runs
from PIL import Image

import profi
from profi.data.manifest import read_manifest
from profi.data.masks import triplet_mask
from profi.data.pictures import load_image
from profi.fitting import bytes_of, fit_picture
from profi.harness import build_metrics
from profi.harness.build_data import load_triplets
from profi.harness.rows import load_model, stable_inpainting
from profi.harness.run_folder import RunFolder, evaluation_of_run
from profi.harness.run_status import Entry
from profi.harness.runs import Command, Samples, context_of, group_of, report_folder
from profi.harness.score import decode
from profi.metrics import MMDetDetector
from profi.models.backbone import Backbone
from profi.settings import AccuracyConfig, Config, MetricConfig
from profi.settings.evaluation import OF_SCORES, OURS, RELEASED, Evaluation
from profi.store.generations import read_generations
from profi.types import UserError

OTHERS = {n: v for n, v in asdict(RELEASED).items() if n != "name"} | {"dilation": "after_padding"}


def turned(config: Config, **choices: str) -> Config:
    return replace(config, evaluation=replace(config.evaluation, **choices))


@pytest.mark.parametrize("choice", list(OTHERS))
def test_every_choice_is_in_the_run_s_id_or_in_the_scores_identity(
    settings: Callable[..., Config], backbone: Backbone, choice: str
) -> None:
    """In exactly one: what changes scores alone finds the pictures that there are."""
    usual = settings()
    other = turned(usual, **{choice: OTHERS[choice]})

    def run_id(config: Config) -> str:
        triplets, _ = load_triplets(config.data, evaluation=config.evaluation)
        (run,) = resolved(config).values()
        context = replace(context_of(config), method=run.method, load=lambda _: backbone)
        return run.spec(stable_inpainting(context), Samples(triplets, "images")).run_id

    def required(config: Config) -> Any:
        accuracy = AccuracyConfig(backend="mmdet")
        names = ["clip_score", "accuracy", "aesthetic"]
        metric = replace(config.metric, metrics=names, accuracy=accuracy)
        return build_metrics.required_identity(metric, config.evaluation)

    def asked(config: Config) -> Any:
        return resolved(config)["profi", 0].settings

    of_scores = choice in OF_SCORES
    assert (run_id(other) == run_id(usual)) == of_scores
    assert (asked(other) == asked(usual)) == of_scores
    assert (required(other) == required(usual)) == (not of_scores)


def test_metrics_note_the_rules_that_they_were_given(world: Any, tmp_path: Path) -> None:
    from tiny_models import save_rtdetr

    from profi.metrics.aesthetic import AestheticPredictor
    from profi.settings import AestheticConfig

    AestheticPredictor(12, (8, 4)).save_pretrained(tmp_path / "aesthetic")
    clip = world.metric.clip.path
    config = MetricConfig(
        metrics=["clip_score", "accuracy", "aesthetic"],
        clip=world.metric.clip,
        accuracy=AccuracyConfig(path=str(save_rtdetr(tmp_path / "rtdetr"))),
        aesthetic=AestheticConfig(str(tmp_path / "aesthetic"), clip),
    )
    for evaluation in (OURS, RELEASED):
        required = build_metrics.required_identity(config, evaluation)
        for metric in build_metrics.load_metrics(config, "cpu", evaluation):
            flat = dict(metric.identity)
            expected = {k: v for k, v in required[metric.name].items() if "." not in k}
            assert expected
            assert {name: flat[name] for name in expected} == expected


def test_the_detector_gets_the_evaluation_s_channels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """(What it does with them is tested where MMDetection is installed.)"""
    seen: list[str] = []

    def load(*_: Any, channels: str, **__: Any) -> Any:
        seen.append(channels)

    monkeypatch.setattr(MMDetDetector, "from_checkpoint", load)
    (tmp_path / "rtmdet.pth").write_bytes(b"")
    accuracy = AccuracyConfig(backend="mmdet", checkpoint=str(tmp_path / "rtmdet.pth"))
    config = MetricConfig(metrics=["accuracy"], accuracy=accuracy)
    for evaluation in (OURS, RELEASED):
        build_metrics.load_metrics(config, "cpu", evaluation)
    assert seen == ["bgr", "rgb_as_bgr"]


@pytest.fixture
def released(settings: Callable[..., Config]) -> Config:
    config = settings(evaluation=RELEASED, stage="generate")
    return replace(config, model=replace(config.model, long_side=48))


def test_with_the_run_s_noise_the_result_is_the_same_however_it_is_painted(
    released: Config, tmp_path: Path
) -> None:
    """In one go, in shards in another order, and gone on with after a part was lost."""
    go(released)
    (whole,) = runs(released).values()
    expected = pictures(whole)
    assert len(expected) == 10
    cut = replace(released, out=str(tmp_path / "cut"))
    for shard in ("3/3", "1/3", "2/3"):
        go(replace(cut, shard=shard))
    (sharded,) = runs(cut).values()
    assert sharded.run_id == whole.run_id
    assert pictures(sharded) == expected
    lost = next(sharded.generations.glob("part-*1.parquet"))
    lost.unlink()
    go(cut)
    assert pictures(sharded) == expected


def test_pictures_of_one_size_start_from_one_noise(
    released: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And other runs from another one; in this project's own evaluation each has its own."""
    from profi.method import inpainting as stable_inpainting

    seen: list[torch.Tensor] = []
    start_noise = stable_inpainting.start_noise

    def look(*arguments: Any) -> torch.Tensor:
        drawn = start_noise(*arguments)
        seen.extend(drawn)
        return drawn

    monkeypatch.setattr(stable_inpainting, "start_noise", look)
    found = {}
    for name, seed, noise in (("run", 0, "run"), ("seed", 7, "run"), ("own", 0, "picture")):
        go(replace(turned(released, noise=noise), seed=seed))
        found[name] = {tuple(x.shape): [y for y in seen if y.shape == x.shape] for x in seen}
        seen.clear()
    for shape, drawn in found["run"].items():
        peer = torch.randn(shape, generator=torch.Generator().manual_seed(0)).half().float()
        assert all(torch.equal(x, peer) for x in drawn)
        assert not any(torch.equal(x, peer) for x in found["seed"][shape])
        own = found["own"][shape]
        assert len(own) == len(drawn) == len({x.numpy().tobytes() for x in own})
    assert max(len(drawn) for drawn in found["run"].values()) > 1


@pytest.mark.parametrize("evaluation", [OURS, RELEASED], ids=lambda e: e.name)
def test_the_painter_paints_what_a_run_paints(
    settings: Callable[..., Config], evaluation: Evaluation
) -> None:
    """The same picture, mask, prompt and seed, by `run.py` and in Python: the same bytes."""
    one = replace(evaluation, noise="run")
    config = settings(evaluation=one, stage="generate", seed=3)
    model = replace(config.model, long_side=48, batch_size=1)
    config = replace(config, model=model, reading=replace(config.reading, name="paper"))
    go(config)
    (folder,) = runs(config).values()
    painter = profi.Painter(load_model(model), long_side=48, pad_multiple=16)
    stored = pictures(folder)
    for triplet in read_manifest(folder.manifest):
        image = load_image(Path(config.data.root), triplet)
        run_s = decode(stored[triplet.triplet_id])
        painted = painter(
            Image.fromarray(image),
            triplet_mask(triplet),
            triplet.prompt,
            seed=3,
            reading=config.reading,
            evaluation=one,
            steps=2,
            blended=False,
        )
        # Brought to the picture's own size by the same rule.
        size = (triplet.height, triplet.width)
        unit = torch.from_numpy(run_s).permute(2, 0, 1) / 255.0
        own = bytes_of(fit_picture(unit, size, one.picture), "rounded").permute(1, 2, 0)
        assert max(run_s.shape) == 48
        np.testing.assert_array_equal(np.asarray(painted), own.numpy())


def test_bytes_are_truncated_where_that_is_asked_for(settings: Callable[..., Config]) -> None:
    """Never above the rounded ones, and half of them one below."""
    found = {}
    for rule in ("rounded", "truncated"):
        config = turned(settings(stage="generate", data=settings().data), bytes=rule)
        go(config)
        (folder,) = runs(config).values()
        found[rule] = {k: decode(v).astype(int) for k, v in pictures(folder).items()}
    below = np.concatenate(
        [(found["rounded"][k] - found["truncated"][k]).ravel() for k in found["rounded"]]
    )
    assert set(np.unique(below)) == {0, 1}
    assert 0.4 < below.mean() < 0.6


def test_a_run_s_evaluation_can_be_read_again(released: Config) -> None:
    go(released)
    (folder,) = runs(released).values()
    assert evaluation_of_run(folder).of_pixels == RELEASED.of_pixels
    recorded = json.loads((folder.root / "run.json").read_text())["pixels"]
    assert recorded["evaluation"]["noise"] == "run"
    assert [item.triplet_id for item in read_generations(folder.generations)] == [
        t.triplet_id for t in read_manifest(folder.manifest)
    ]


def test_a_run_of_an_older_version_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"run_id": "x", "pixels": {"fit": {}}}))
    with pytest.raises(UserError, match="painted by an older version: paint it again"):
        evaluation_of_run(RunFolder(tmp_path))


def test_reports_of_two_evaluations_lie_apart(settings: Callable[..., Config]) -> None:
    entry = [Entry(RunFolder(Path("x")), "m", "base", "released", 0)]
    names, groups = set(), set()
    for evaluation in (OURS, RELEASED, replace(RELEASED, noise="picture")):
        config = settings(name="table2", evaluation=evaluation)
        command = Command(config, "run.py here", "a: 1\n")
        names.add(report_folder(command, entry).name)
        groups.add(group_of(command))
    assert names == {
        "table2",
        "table2-evaluation=released",
        "table2-evaluation=released-noise=picture",
    }
    assert len(groups) == 3


def test_the_page_tells_the_evaluation(settings: Callable[..., Config]) -> None:
    config = turned(settings(name="facts", evaluation=RELEASED), noise="picture")
    go(config)
    (page,) = Path(config.out).glob("reports/facts*/report.html")
    text = "".join(page.read_text().split())
    assert "<dt>evaluation</dt><dd><code>released,noise=picture</code></dd>" in text
