"""`highres=` of an experiment: stored pictures in high resolution."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from experiment_calls import folder_of, go
from PIL import Image
from tiny_upscaler import make_upscaler

import profi
from profi.data.manifest import read_manifest
from profi.data.masks import triplet_mask
from profi.data.pictures import load_image
from profi.harness.enlarge import enlarge, highres_folder
from profi.harness.export import Choice, export
from profi.highres import load_upscaler
from profi.models.backbone import load_backbone
from profi.settings import Config
from profi.settings.highres import HIGHRES, NONE
from profi.store.generations import (
    read_generations,
    read_generations_part,
    write_generations,
)
from profi.types import UserError, noise_seed

Settings = Callable[..., Config]


@pytest.fixture(scope="module")
def upscaler_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("x4")
    make_upscaler().save_pretrained(folder)
    return folder


@pytest.fixture
def config(settings: Settings, upscaler_folder: Path) -> Config:
    config = settings(
        seed=3, highres=HIGHRES["ours"], upscaler=str(upscaler_folder), stage="generate"
    )
    model = replace(config.model, long_side=32, batch_size=1)
    return replace(
        config, model=model, ablations=["base"], data=replace(config.data, limit=3), part_size=2
    )


def test_stored_pictures_become_what_painter_highres_gives(
    config: Config, upscaler_folder: Path
) -> None:
    go(config)
    run = folder_of(config, "base", 3)
    upscaler = load_upscaler(upscaler_folder, "cpu")
    folder = highres_folder(run, upscaler, HIGHRES["ours"])
    found = {item.triplet_id: item for item in read_generations(folder)}
    assert len(found) == 3
    triplets = {t.triplet_id: t for t in read_manifest(run.manifest)}
    painter = profi.Painter(load_backbone(Path(config.model.path or "")), 32, 16)
    for name, item in list(found.items())[:2]:
        triplet = triplets[name]
        image, mask = load_image(Path(config.data.root), triplet), triplet_mask(triplet)
        got = np.asarray(Image.open(BytesIO(item.image)))
        assert got.shape == image.shape
        expected = painter.highres(
            image,
            mask,
            triplet.prompt,
            upscaler=upscaler,
            seed=noise_seed(3, name),
            steps=2,
            ablation="base",
        )
        assert np.array_equal(got, np.asarray(expected))

    target = run.root.parent / "exported"
    assert export([run.root], target, Choice(highres=True), lambda count: None) == 3
    table = pd.read_csv(target / "pictures.csv")
    assert set(table["triplet"]) == set(found)
    for row in table.itertuples():
        assert Path(row.file).parent.name.endswith(f"{run.run_id}-{folder.name}")
        stored = np.asarray(Image.open(BytesIO(found[row.triplet].image)))
        assert np.array_equal(np.asarray(Image.open(target / row.file)), stored)

    # A second time nothing is made again; another set has a folder of its own.
    before = {path: path.stat().st_mtime_ns for path in folder.glob("part-*")}
    go(config)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("part-*")} == before
    assert highres_folder(run, upscaler, HIGHRES["paper"]) != folder
    # What is lost is made again, the rest is kept.
    first, *rest = sorted(folder.glob("part-*"))
    first.unlink()
    go(config)
    assert first.exists()
    assert all(path.stat().st_mtime_ns == before[path] for path in rest)
    assert {item.triplet_id: item.image for item in read_generations(folder)} == {
        name: item.image for name, item in found.items()
    }


def test_a_picture_that_fails_is_set_aside(config: Config, upscaler_folder: Path) -> None:
    go(replace(config, highres=NONE))
    run = folder_of(config, "base", 3)
    upscaler = load_upscaler(upscaler_folder, "cpu")
    settings = replace(HIGHRES["ours"], num_inference_steps=1)
    root = Path(config.data.root)
    name = next(iter(read_manifest(run.manifest))).file_name
    moved = (root / name).rename(root / "away")
    try:
        folder = enlarge(run, upscaler, settings, root)
        assert len(list(read_generations(folder))) == 2
        (line,) = run.quarantine.read_text().splitlines()
        assert json.loads(line)["stage"] == "highres"
        with pytest.raises(UserError, match="this upscaler knows"):
            enlarge(run, upscaler, replace(settings, noise_level=900), root)
    finally:
        moved.rename(root / name)
    assert len(list(read_generations(enlarge(run, upscaler, settings, root)))) == 3
    with pytest.raises(UserError, match="leave crop and long_side"):
        enlarge(run, upscaler, replace(settings, crop=4), root)


def test_a_shard_enlarges_its_own_parts_whatever_is_painted(
    config: Config, upscaler_folder: Path
) -> None:
    go(replace(config, highres=NONE))
    run, root = folder_of(config, "base", 3), Path(config.data.root)
    upscaler = load_upscaler(upscaler_folder, "cpu")
    settings = replace(HIGHRES["ours"], num_inference_steps=1)
    first = run.generations / "part-00000.parquet"
    later = first.rename(first.with_suffix(".later"))
    folder = enlarge(run, upscaler, settings, root, shard=(1, 2))
    assert [path.name for path in folder.glob("part-*")] == ["part-00001.parquet"]
    later.rename(first)
    enlarge(run, upscaler, settings, root, shard=(0, 2))
    assert len(list(read_generations(folder))) == 3


def test_what_was_painted_again_is_enlarged_again(config: Config, upscaler_folder: Path) -> None:
    go(replace(config, highres=NONE))
    run, root = folder_of(config, "base", 3), Path(config.data.root)
    upscaler = load_upscaler(upscaler_folder, "cpu")
    settings = replace(HIGHRES["ours"], num_inference_steps=1)
    folder = enlarge(run, upscaler, settings, root)
    before = {item.triplet_id: item.image for item in read_generations(folder)}
    first, second = read_generations_part(run.generations, 0) or []
    write_generations(run.generations, 0, [replace(first, image=second.image), second])
    enlarge(run, upscaler, settings, root)
    after = {item.triplet_id: item.image for item in read_generations(folder)}
    assert [name for name in before if after[name] != before[name]] == [first.triplet_id]


def test_as_decoded_needs_pictures_that_are_not_blended(config: Config) -> None:
    blended = replace(config.sampling, output="blended")
    with pytest.raises(UserError, match=r"high resolution failed for 1 of 1 runs"):
        go(replace(config, highres=HIGHRES["released"], sampling=blended))


def test_a_missing_upscaler_is_found_before_the_painting(config: Config, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    broken = replace(config, upscaler=str(tmp_path / "empty"))
    with pytest.raises(UserError, match="is missing"):
        go(broken)
    assert not list(Path(config.out).glob("*/generations/part-*"))
    with pytest.raises(UserError, match=r"1 of .* checks failed: upscaler"):
        go(replace(broken, stage="check"))


def test_a_wrong_upscaler_is_refused_before_anything_is_painted(settings: Settings) -> None:
    with pytest.raises(UserError, match="upscaler 'x5' is unknown"):
        settings(highres=HIGHRES["released"], upscaler="x5")
    for changes in ({"crop": 4}, {"long_side": 64}):
        with pytest.raises(UserError, match=r"leave highres\.crop and highres\.long_side null"):
            settings(highres=replace(HIGHRES["ours"], **changes))
    with pytest.raises(UserError, match=r"highres\.tile has no effect without highres=ours"):
        settings(highres=replace(NONE, tile=96))
