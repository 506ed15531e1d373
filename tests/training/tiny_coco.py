"""A few pictures with an object each, in MSCOCO's form."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from tiny_model import RECIPE

from profi.training.instance_list import InstanceList, read_instances

SIDE = 64


BOXES = {1: (4, 8, 24, 40), 2: (60, 10, 30, 30), 3: (50, 50, 4, 4)}


def write(
    folder: Path, boxes: dict[int, tuple[int, int, int, int]] = BOXES
) -> tuple[Path, Path, Path]:
    """Three pictures, 96x64, with a red box each: at the left, at the right, and a tiny one."""
    root = folder / "train2017"
    root.mkdir()
    images, annotations, captions = [], [], []
    for i, (x, y, w, h) in boxes.items():
        pixels = np.full((64, 96, 3), 40 * i % 200, np.uint8)
        pixels[y : y + h, x : x + w] = (200, 0, 0)
        Image.fromarray(pixels).save(root / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": 64, "width": 96})
        polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
        annotations.append(
            {"id": 10 * i, "image_id": i, "category_id": 1, "segmentation": [polygon],
             "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
        )  # fmt: skip
        captions.append({"id": i, "image_id": i, "caption": f"the whole of {i} "})
    categories = [{"id": 1, "name": "bus"}]
    a, c = folder / "instances.json", folder / "captions.json"
    a.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    c.write_text(json.dumps({"images": images, "annotations": captions}))
    return root, a, c


CAPTIONS = {10: "a red left", 20: "a red right"}


LABELS = replace(RECIPE, captions=0.0)


def many(folder: Path, bad: int, good: int) -> InstanceList:
    """The instances of as many pictures, of which the first ones are no pictures at all."""
    root, *files = write(folder, dict.fromkeys(range(1, bad + good + 1), (4, 8, 24, 40)))
    for i in range(1, bad + 1):
        (root / f"{i}.png").write_bytes(b"no picture")
    return read_instances(root, *files, min_share=0.01)
