"""The training script from its command line to a model that paints."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from coco_fixture import publish
from file_server import FileServer
from PIL import Image

from profi.inpainters.backbone import load_backbone
from profi.inpainters.base import Sampling
from profi.inpainters.smartbrush import SMARTBRUSH, SmartBrush
from profi.training.coco_files import coco_files
from profi.types import UserError


@pytest.fixture
def script(load_script):  # type: ignore[no-untyped-def]
    AcceleratorState._reset_state(reset_partial_state=True)
    return load_script("train_smartbrush")


def test_it_trains_a_model_that_paints_and_shows_pictures(
    script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, batch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(script, "Scenes", partial(script.Scenes, size=8))
    monkeypatch.setattr(script, "Pictures", partial(script.Pictures, sampling=Sampling(2)))
    work = tmp_path / "work"
    script.main(
        [f"work={work}", "cpu=yes", "steps=2", "batch=4", "pictures=2", "show_every=1"],
    )
    with Image.open(work / "pictures" / "0000002.png") as sheet:
        assert sheet.size == (2 * 64, 3 * 64)
    backbone = load_backbone(work / "model", role=SMARTBRUSH)
    row = SmartBrush(backbone, Sampling(num_inference_steps=2))
    painted = row(batch.images, batch.masks, ["a bus"] * 4, batch.seeds)
    assert painted.shape == batch.images.shape
    assert '"steps": 2' in (work / "figures.json").read_text()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("data=imagenet", "scenes or coco"),
        ("precision=int4", "no or bf16 or fp16"),
        ("save_every=0", "save_every=0"),
        ("workers=many", "workers=many"),
        ("colour=red", "colour=red"),
        ("model=nowhere", "nowhere"),
    ],
)
def test_a_bad_option_is_refused_by_its_name(script, argument: str, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        script.main(["cpu=yes", argument])


def test_coco_is_fetched_where_no_files_are_given(server: FileServer, tmp_path: Path) -> None:
    source = publish(server)
    chosen = {"cache": str(tmp_path), "root": "", "annotations": "", "image_captions": ""}
    files = coco_files(chosen, source=source)
    folder = tmp_path / "coco2017"
    assert files == (
        folder / "train2017",
        folder / "instances_train2017.json",
        folder / "captions_train2017.json",
    )
    assert all(path.exists() for path in files)
    own = {name: str(path) for name, path in files._asdict().items()}
    server.requests.clear()
    assert coco_files({**own, "cache": str(tmp_path / "other")}, source=source) == files
    assert server.requests == []
    assert not (tmp_path / "other").exists()
