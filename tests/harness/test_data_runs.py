"""Whole runs on the data of users: their own folder, and val2017 with its accidents."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from coco_fixture import INSTANCES, SAMPLE, SAMPLED, write_images
from own_set import write_folder
from PIL import Image
from rich.console import Console

from profi.data.manifest import manifest_digest, read_manifest
from profi.data.masks import triplet_mask
from profi.harness.experiment import run
from profi.harness.run_folder import RunFolder
from profi.harness.runs import Command
from profi.harness.score import decode
from profi.settings import (
    AccuracyConfig,
    Config,
    DataConfig,
    MetricConfig,
    ModelConfig,
)
from profi.store.generations import read_generations
from profi.store.parts import read_lines


def go(config: Config, tmp_path: Path) -> RunFolder:
    """Run a command; the run's folder."""
    before = set(Path(config.out).glob("*/run.json"))
    with (tmp_path / "shown.txt").open("w") as shown:
        run(Command(config, "run.py here", "a: 1\n"), Console(file=shown, width=160))
    (record,) = set(Path(config.out).glob("*/run.json")) - before
    return RunFolder(record.parent)


def scores(config: Config, folder: RunFolder) -> pd.DataFrame:
    return pd.read_parquet(Path(config.out) / "reports" / folder.run_id / "scores.parquet")


def test_a_folder_is_painted_scored_and_reported(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    """By the embedded world's own model and detector."""
    metric = MetricConfig(
        metrics=["accuracy", "known_region_psnr"],
        accuracy=AccuracyConfig(path="shipped:cpu/detector"),
    )
    config = settings(
        model=ModelConfig(device="cpu", long_side=64, pad_multiple=32),
        data=write_folder(tmp_path / "set"),
        metric=metric,
    )
    folder = go(config, tmp_path)
    triplets = {t.triplet_id: t for t in read_manifest(folder.manifest)}
    pictures = {item.triplet_id: item.image for item in read_generations(folder.generations)}
    assert pictures.keys() == triplets.keys()
    assert len(triplets) == 4
    for name, triplet in triplets.items():
        height, width = decode(pictures[name]).shape[:2]
        assert max(height, width) == 64
        assert height / width == pytest.approx(triplet.height / triplet.width, rel=0.05)
        with Image.open(tmp_path / "set" / "masks" / triplet.file_name) as mask:
            np.testing.assert_array_equal(triplet_mask(triplet), np.array(mask.convert("1")))
    found = scores(config, folder)
    psnr = found[found["metric"] == "known_region_psnr"]["value"]
    assert len(psnr) == 4
    assert psnr.notna().all()
    # What is no category of the detector's has no accuracy, and is not left out.
    accuracy = found[found["metric"] == "accuracy"].set_index("category")["value"]
    assert accuracy["a glass teapot"].isna().tolist() == [True, True]
    assert accuracy["apple"].isin([0.0, 100.0]).tolist() == [True, True]
    page = (Path(config.out) / "reports" / folder.run_id / "report.html").read_text()
    for text in (
        "a glass teapot",
        manifest_digest(list(triplets.values())),
        "2 could not be computed",
    ):
        assert text in page


def test_other_masks_are_another_run_and_scoring_needs_no_folder(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    data = write_folder(tmp_path / "set")
    config = settings(data=data, metric=replace(settings().metric, metrics=["clip_score"]))
    first = go(config, tmp_path)
    Image.new("1", (60, 30), 1).save(tmp_path / "set" / "masks" / "0.png")
    second = go(config, tmp_path)
    manifests = [json.loads((f.root / "run.json").read_text())["pixels"] for f in (first, second)]
    assert manifests[0]["manifest"] != manifests[1]["manifest"]
    assert manifests[0]["images"] == manifests[1]["images"]
    # The masks lie in the manifest.
    shutil.rmtree(tmp_path / "set")
    shutil.rmtree(second.scores)
    run(
        Command(replace(config, stage="score"), "run.py here", "a: 1\n"),
        Console(quiet=True),
    )
    assert len([*second.scores.glob("*/part-*.parquet")]) == 1


def test_broken_and_missing_images_do_not_end_a_run(
    settings: Callable[..., Config], val2017: DataConfig, tmp_path: Path
) -> None:
    """A JPEG cut short, as by a full disk, and one that is gone, on the way of a local copy."""
    root = write_images(tmp_path / "val2017")
    cut, gone = root / "000000000139.jpg", root / "000000000285.jpg"
    cut.write_bytes(cut.read_bytes()[:-300])
    gone.unlink()
    (tmp_path / "list.csv").write_text(SAMPLE)
    data = replace(
        val2017,
        root=str(root),
        annotations=str(INSTANCES),
        sample_path=str(tmp_path / "list.csv"),
    )
    config = settings(data=data)
    folder = go(config, tmp_path)
    triplets = read_manifest(folder.manifest)
    assert {t.annotation_id for t in triplets} == set(SAMPLED)
    numbers = {t.triplet_id: t.annotation_id for t in triplets}
    painted = {numbers[item.triplet_id] for item in read_generations(folder.generations)}
    assert painted == {3003, 3002}
    noted = {numbers[line["triplet_id"]]: line for line in read_lines(folder.quarantine)}
    assert noted.keys() == {1770, 2001, 2002}
    assert {line["stage"] for line in noted.values()} == {"load"}
    assert "cannot be read" in noted[1770]["reason"]
    assert "does not exist" in noted[2002]["reason"]
    page = (Path(config.out) / "reports" / folder.run_id / "report.html").read_text()
    assert "3 samples quarantined" in page
    assert set(scores(config, folder)["triplet_id"].map(numbers)) == painted
