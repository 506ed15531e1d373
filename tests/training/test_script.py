"""The training script from its command line to a model that paints."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from coco_fixture import INSTANCES, publish, write_images
from file_server import FileServer
from PIL import Image

from profi.baselines.smartbrush import SMARTBRUSH, SmartBrush
from profi.models.backbone import load_backbone
from profi.settings.method import Sampling
from profi.training.instance_list import coco_files
from profi.types import UserError


@pytest.fixture
def script(load_script):  # type: ignore[no-untyped-def]
    AcceleratorState._reset_state(reset_partial_state=True)
    return load_script("train_smartbrush")


def test_it_trains_a_model_that_paints_and_shows_pictures(
    script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, batch
) -> None:  # type: ignore[no-untyped-def]
    quick = partial(script.ValidationSheets, sampling=Sampling(2))
    monkeypatch.setattr(script, "ValidationSheets", quick)
    work = tmp_path / "work"
    script.main(
        [f"work={work}", "cpu=yes", "steps=2", "batch=4", "pool=8", "pictures=2", "show_every=1"],
    )
    with Image.open(work / "pictures" / "0000002.png") as sheet:
        assert sheet.size == (2 * 128, 3 * 128)
    backbone = load_backbone(work / "model", role=SMARTBRUSH)
    row = SmartBrush(backbone, Sampling(num_inference_steps=2))
    painted = row(batch.images, batch.masks, ["a bus"] * 4, batch.seeds)
    assert painted.shape == batch.images.shape
    assert '"steps": 2' in (work / "figures.json").read_text()


COCO = ["data=coco", "crop_captions=", "captions=0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=nowhere"], "nowhere"),
        (["work=README.md/x"], "work=README.md/x: Not a directory"),
        (["side=60"], "side=60: must be a multiple of 32"),
        # Before the model and train2017 are fetched, which no test may do:
        (["data=coco"], "crop_captions=... is missing"),
        (["data=coco", "crop_captions=README.md"], "no file of captions"),
        ([*COCO, "val_root=nowhere", "val_annotations=x.json"], "val_root=nowhere is no folder"),
        ([*COCO, "val_root=docs", "val_annotations=x.json"], "x.json"),
    ],
)
def test_a_mistake_is_told_before_anything_is_fetched(
    script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(Path(__file__).parents[2])

    def fetched(*_: object) -> None:
        raise AssertionError("something was fetched")

    monkeypatch.setattr(script, "coco_files", fetched)
    monkeypatch.setattr(script, "from_hub", fetched)
    with pytest.raises(UserError, match=message):
        script.main([f"work={tmp_path}", "cpu=yes", *arguments])


def test_the_help_is_printed(script, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    script.main(["--help"])
    assert "crop_captions=" in capsys.readouterr().out


def test_the_precision_is_accelerate_s_own(
    script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    """What `accelerate launch --mixed_precision` sets is not overridden."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    training = ["cpu=yes", "steps=1", "batch=2", "pool=2", "pictures=0"]
    for folder, given, precision in (("a", [], "bf16"), ("b", ["precision=no"], "no")):
        AcceleratorState._reset_state(reset_partial_state=True)
        script.main([f"work={tmp_path / folder}", *training, *given])
        state = json.loads((tmp_path / folder / "checkpoint-1" / "state.json").read_text())
        assert state["belongs"]["precision"] == precision


def test_coco_s_training_knows_its_data(script, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    root = write_images(tmp_path / "train2017")
    captions, crops = tmp_path / "captions.json", tmp_path / "crops.jsonl"
    instances = json.loads(INSTANCES.read_text())
    captions.write_text(json.dumps({"images": instances["images"], "annotations": []}))
    rows = [{"id": one["id"], "caption": "a thing"} for one in instances["annotations"]]
    crops.write_text("".join(json.dumps(row) + "\n" for row in rows))
    training = [
        "data=coco", f"root={root}", f"annotations={INSTANCES}", f"image_captions={captions}",
        f"crop_captions={crops}", "model=shipped:cpu/t2i", "parts=shipped:cpu/inpaint",
        "cpu=yes", "steps=1", "batch=2", "side=64", "workers=0", f"work={tmp_path / 'work'}",
    ]  # fmt: skip
    script.main(training)
    assert (tmp_path / "work" / "model" / "vae").is_dir()
    crops.write_text(crops.read_text().replace("thing", "place"))
    for changed, message in (([], "crop_captions="), (["side=32"], "side=64, not 32")):
        AcceleratorState._reset_state(reset_partial_state=True)
        with pytest.raises(UserError, match=message):
            script.main([*training, *changed])


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
