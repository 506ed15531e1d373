"""Stage `scenes`: the validation scenes as PNG files and a COCO-format annotation file."""

from __future__ import annotations

import json
from pathlib import Path

import contourpy
import numpy as np
import torch
from PIL import Image

from profi.mini.scenes import SceneSampler, SpriteSheet
from profi.mini.training.loop import make_generator
from profi.mini.world import World

COUNT = {"cpu": 400, "gpu": 240}


def polygons(mask: np.ndarray) -> list[list[float]]:
    """The outlines of a bool mask [H, W] as COCO polygons (x0, y0, x1, y1, ...) in pixels.

    Pixel (row, column) covers [column, column + 1) x [row, row + 1).
    """
    padded = np.pad(mask.astype(float), 1)
    lines = contourpy.contour_generator(z=padded).lines(0.5)
    flat = [(np.asarray(line)[:-1] - 0.5).ravel().round(2).tolist() for line in lines]
    return [polygon for polygon in flat if len(polygon) >= 6]


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Write `work/data/images/*.png` and `work/data/instances_val.json`.

    Always composed on the CPU: a device's own random stream would give other scenes.
    """
    folder = work / "data"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    sampler = SceneSampler(world, SpriteSheet.load(world, "val"))
    scenes = sampler.sample(COUNT[world.size], make_generator(torch.device("cpu"), seed, 21))
    images: list[dict] = []
    annotations: list[dict] = []
    for i, image in enumerate(scenes.image):
        name, side = f"{i + 1:012d}.png", world.image_size
        pixels = (image.permute(1, 2, 0) * 255).round().byte().numpy()
        Image.fromarray(pixels).save(folder / "images" / name, optimize=True)
        images.append({"id": i + 1, "file_name": name, "width": side, "height": side})
        for mask, kind in zip(scenes.masks[i].numpy(), scenes.category[i].tolist(), strict=True):
            if kind < 0:
                continue
            rows, columns = np.nonzero(mask)
            x, y = int(columns.min()), int(rows.min())
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i + 1,
                    "category_id": world.category_ids[world.categories[kind]],
                    "segmentation": polygons(mask),
                    "area": float(mask.sum()),
                    "bbox": [x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i, "name": name} for name, i in world.category_ids.items()]
    document = {
        "info": {"description": f"profi's embedded world, size {world.size}, seed {seed}"},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    (folder / "instances_val.json").write_text(json.dumps(document) + "\n")
    return {"images": len(images), "annotations": len(annotations)}
