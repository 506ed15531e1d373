"""Pictures out of the stores, and the list of runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

import profi
from profi.cli.main import profi as command
from profi.data.manifest import read_manifest
from profi.data.masks import triplet_mask
from profi.data.pictures import load_image
from profi.harness.experiment import run
from profi.harness.run_folder import RunFolder
from profi.harness.runs import Command
from profi.models.backbone import load_backbone
from profi.settings import Config
from profi.store.generations import read_generations
from profi.types import MAX_SEED, sample_seed

Settings = Callable[..., Config]


@pytest.fixture
def painted(settings: Settings) -> tuple[Config, list[RunFolder]]:
    """Base and the full method, painted and scored; the model paints smaller than the images."""
    config = settings(ablations=["base", "profi"], seed=3)
    config = replace(config, model=replace(config.model, long_side=32))
    run(Command(config, "run.py here", "a: 1\n"), Console(quiet=True))
    return config, [RunFolder(p.parent) for p in sorted(Path(config.out).glob("*/run.json"))]


def called(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(command, [str(word) for word in arguments])
    error = "" if result.exception is None else str(result.exception)
    return result.exit_code, result.output + error


def test_exported_pictures_are_what_the_painter_gives(
    painted: tuple[Config, list[RunFolder]], tmp_path: Path
) -> None:
    config, runs = painted
    target = tmp_path / "pictures"
    status, shown = called("export", *(r.root for r in runs), "--to", target, "--masks", "--inputs")
    assert status == 0, shown
    assert shown.endswith(f"20 pictures: {target / 'pictures.csv'}\n")
    table = pd.read_csv(target / "pictures.csv")
    assert len(table) == 20
    assert set(table["ablation"]) == {"base", "profi"}
    assert table["clip_score"].notna().all()
    triplets = {t.triplet_id: t for t in read_manifest(runs[0].manifest)}
    painter = profi.Painter(load_backbone(Path(config.model.path or "")), 32, 16)
    root = Path(config.data.root)
    for row in table.sample(6, random_state=0).itertuples():
        triplet = triplets[row.triplet]
        image, mask = load_image(root, triplet), triplet_mask(triplet)
        got = np.asarray(Image.open(target / row.file))
        assert got.shape == image.shape
        assert np.array_equal(got[~mask], image[~mask])
        expected = painter(
            image, mask, triplet.prompt, ablation=row.ablation, steps=2,
            seed=sample_seed(3, triplet.triplet_id) & MAX_SEED,
        )  # fmt: skip
        # In batches of two the last bits differ, and RASG magnifies them.
        assert np.abs(got.astype(int) - np.asarray(expected)).max() <= 3
        name = f"{row.triplet}.png"
        assert np.array_equal(np.asarray(Image.open(target / "inputs" / name)), image)
        assert np.array_equal(np.asarray(Image.open(target / "masks" / name)) > 0, mask)


def test_as_painted_is_what_the_store_holds(
    painted: tuple[Config, list[RunFolder]], tmp_path: Path
) -> None:
    _, runs = painted
    status, shown = called("export", runs[0].root, "--to", tmp_path / "x", "--as-painted")
    assert status == 0, shown
    for item in read_generations(runs[0].generations):
        (path,) = (tmp_path / "x").glob(f"*/{item.triplet_id}.png")
        assert max(Image.open(path).size) == 32
        stored = tmp_path / "stored.png"
        stored.write_bytes(item.image)
        assert np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(stored)))


def test_a_metric_s_folder_opens_in_pandas(painted: tuple[Config, list[RunFolder]]) -> None:
    _, runs = painted
    (folder,) = runs[0].scores.glob("clip_score-*")
    frame = pd.read_parquet(folder)
    assert len(frame) == 10
    assert set(frame["metric"]) == {"clip_score"}


def test_mistakes_of_an_export(painted: tuple[Config, list[RunFolder]], tmp_path: Path) -> None:
    _, runs = painted
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a.txt").touch()
    for arguments, message in (
        ((runs[0].root, "--to", tmp_path / "full"), "is not an empty folder"),
        ((tmp_path, "--to", tmp_path / "new"), "is not a run's folder"),
        ((runs[0].root, "--to", tmp_path / "new", "--data-root", tmp_path), "does not exist"),
        (
            (runs[0].root, "--to", tmp_path / "new", "--highres"),
            "has no picture in high resolution",
        ),
        ((runs[0].root, "--to", tmp_path / "new", "--highres", "--as-painted"), "not both"),
    ):
        status, shown = called("export", *arguments)
        assert status != 0
        assert message in shown


def test_runs_are_listed_and_shown(painted: tuple[Config, list[RunFolder]]) -> None:
    config, runs = painted
    status, shown = called("runs", config.out)
    assert status == 0, shown
    head, *lines = shown.splitlines()
    assert head.split()[0] == "run"
    assert len(lines) == 2
    assert all("10/10" in line for line in lines)
    assert {"tiny base seed 3 on test", "tiny profi seed 3 on test"} == {
        line[line.index("tiny") :] for line in lines
    }
    (runs[1].generations / "part-00002.parquet").unlink()
    assert "8/10" in called("runs", config.out)[1]
    status, shown = called("show", runs[0].root)
    assert status == 0, shown
    assert "painted   10 of 10" in shown
    assert "started   run.py here" in shown
    assert "score     CLIP score: " in shown
    assert "report.html" in shown
    status, shown = called("runs", runs[0].root)
    assert status != 0
    assert "holds no run" in shown
