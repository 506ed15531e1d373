"""A world of a dozen triplets and a model of nothing but noise, on the disk as real ones are."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from coco_fixture import publish
from file_server import FileServer
from PIL import Image

from profi.harness import build_data
from profi.models.backbone import Backbone
from profi.settings import (
    ClipConfig,
    Config,
    DataConfig,
    MetricConfig,
    ModelConfig,
    Sampling,
)

# The tiny CLIP model is the metrics' own, the tiny upscaler that of high resolution.
for _folder in ("metrics", "highres"):
    sys.path.insert(0, str(Path(__file__).parents[1] / _folder))

SIZES = ((64, 64), (48, 64), (64, 40))
CATEGORIES = {1: "person", 18: "dog", 17: "cat"}


def write_data(root: Path, count: int = 10) -> DataConfig:
    """`count` images of three sizes with one quadrilateral each."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in range(count):
        height, width = SIZES[i % len(SIZES)]
        name = f"{i:012d}.png"
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / name)
        images.append({"id": i, "file_name": name, "height": height, "width": width})
        x, y = 4 + i % 5, 6 + i % 3
        annotations.append(
            {
                "id": 100 + i,
                "image_id": i,
                "category_id": list(CATEGORIES)[i % 3],
                "iscrowd": 0,
                "segmentation": [[x, y, x + 25, y, x + 25, y + 30, x, y + 30]],
            }
        )
    categories = [{"id": key, "name": name} for key, name in CATEGORIES.items()]
    text = {"images": images, "annotations": annotations, "categories": categories}
    (root / "instances.json").write_text(json.dumps(text))
    return DataConfig(
        name="test", root=str(root / "images"), annotations=str(root / "instances.json")
    )


def save_backbone(folder: Path, backbone: Backbone, scheduler_config: dict[str, object]) -> Path:
    backbone.unet.save_pretrained(folder / "unet")
    backbone.vae.save_pretrained(folder / "vae")
    backbone.text.first.encoder.save_pretrained(folder / "text_encoder")
    backbone.text.first.tokenizer.save_pretrained(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    text = json.dumps(scheduler_config)
    (folder / "scheduler" / "scheduler_config.json").write_text(text)
    return folder


@pytest.fixture
def save_model(scheduler_config: dict[str, object]) -> Callable[[Path, Backbone], Path]:
    """`save_model(folder, backbone)`: a model on the disk, as `model.path` takes it."""
    return lambda folder, backbone: save_backbone(folder, backbone, scheduler_config)


@dataclass(frozen=True)
class World:
    """Where the tiny model and data lie."""

    model: Path
    data: DataConfig
    metric: MetricConfig


@pytest.fixture(scope="session")
def world(
    tmp_path_factory: pytest.TempPathFactory,
    new_backbone: Callable[..., Backbone],
    scheduler_config: dict[str, object],
) -> World:
    folder = tmp_path_factory.mktemp("world")
    model = save_backbone(folder / "model", new_backbone(), scheduler_config)
    from tiny_models import save_clip

    clip = ClipConfig(str(save_clip(folder / "clip")))
    metric = MetricConfig(metrics=["clip_score", "known_region_psnr"], clip=clip)
    return World(model, write_data(folder / "data"), metric)


@pytest.fixture
def settings(world: World, tmp_path: Path) -> Callable[..., Config]:
    """`settings(**changes)`: a quick run in a folder of its own."""

    def make(**changes: object) -> Config:
        values: dict[str, object] = {
            "model": ModelConfig(
                id="tiny",
                path=str(world.model),
                device="cpu",
                long_side=64,
                pad_multiple=16,
                batch_size=2,
            ),
            "data": world.data,
            "metric": world.metric,
            "sampling": Sampling(num_inference_steps=2),
            "part_size": 4,
            "out": str(tmp_path / "out"),
        }
        return Config(**{**values, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def val2017(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """Settings of `data=coco2017` whose three files a server of this machine has."""
    monkeypatch.setattr(build_data, "SOURCE", publish(server))
    return DataConfig(
        name="coco2017",
        source="coco2017",
        root="",
        annotations="",
        cache=str(tmp_path / "cache"),
        sample="released",
        limit=5,
    )
