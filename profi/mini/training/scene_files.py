"""Stage `scenes`: the validation scenes and three hard sets, as pictures and COCO-format files.

instances_val.json        every visible object of the validation scenes
instances_absent.json     one object of every second scene under the name of a category that the
                          scene does not show: nothing in the picture helps the prompt
instances_crowded.json    other scenes, each of one category alone: for each of their objects three
                          and more of its kind stand outside the mask (appendix F)
instances_two_holes.json  two objects of one category and scene as one instance of several parts
                          (appendix G)
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import contourpy
import numpy as np
import torch
from PIL import Image

from profi.mini.scenes import Scenes, SceneSampler, SpriteSheet
from profi.mini.training.stage import make_generator
from profi.mini.world import World
from profi.types import sample_seed

COUNT = 400
CROWDED = 60


def polygons(mask: np.ndarray) -> list[list[float]]:
    """The outlines of a bool mask [H, W] as COCO polygons (x0, y0, x1, y1, ...) in pixels.

    Pixel (row, column) covers [column, column + 1) x [row, row + 1).
    """
    padded = np.pad(mask.astype(float), 1)
    lines = contourpy.contour_generator(z=padded).lines(0.5)
    corners = [_corners(np.asarray(line)[:-1] - 0.5) for line in lines]
    return [
        [int(x) if x.is_integer() else x for x in outline.ravel().round(2).tolist()]
        for outline in corners
        if len(outline) >= 3
    ]


def _corners(outline: np.ndarray) -> np.ndarray:
    """A closed outline [n, 2] without the points that lie between two others on a line."""
    before, after = outline - np.roll(outline, 1, 0), np.roll(outline, -1, 0) - outline
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return outline[np.abs(turns) > 1e-9]


class Document:
    """An instances file of MSCOCO's format in the making."""

    def __init__(self, world: World, what: str) -> None:
        self._world, self._what = world, what
        self.images: list[dict] = []
        self.annotations: list[dict] = []

    def add(self, image_id: int, category: str, outlines: list[list[float]], area: float) -> None:
        """One instance, of one or several parts."""
        points = np.array(
            [xy for flat in outlines for xy in zip(flat[::2], flat[1::2], strict=True)]
        )
        low, high = points.min(0), points.max(0)
        self.annotations.append(
            {
                "id": len(self.annotations) + 1,
                "image_id": image_id,
                "category_id": self._world.category_ids[category],
                "segmentation": outlines,
                "area": area,
                "bbox": [*low.tolist(), *(high - low).tolist()],
                "iscrowd": 0,
            }
        )

    def write(self, path: Path) -> None:
        """As JSON, with the images that instances are of."""
        used = {annotation["image_id"] for annotation in self.annotations}
        document = {
            "info": {
                "description": f"profi's embedded world, size {self._world.size}: {self._what}"
            },
            "images": [image for image in self.images if image["id"] in used],
            "annotations": self.annotations,
            "categories": [{"id": i, "name": n} for n, i in self._world.category_ids.items()],
        }
        path.write_text(json.dumps(document, separators=(",", ":")) + "\n")


def save_images(scenes: Scenes, folder: Path, first_id: int) -> list[dict]:
    """Write a batch of scenes as lossless pictures; returns their COCO records."""
    records = []
    for i, image in enumerate(scenes.image, start=first_id):
        name, side = f"{i:012d}.webp", image.shape[-1]
        pixels = (image.permute(1, 2, 0) * 255).round().byte().numpy()
        Image.fromarray(pixels).save(folder / name, lossless=True, quality=100, method=6)
        records.append({"id": i, "file_name": name, "width": side, "height": side})
    return records


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Write `work/data/images/*.webp` and the four files `work/data/instances_*.json`.

    Always composed on the CPU: a device's own random stream would give other scenes.
    """
    folder = work / "data"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    sampler = SceneSampler(world, SpriteSheet.load(world, "val"))
    scenes = sampler.sample(COUNT, make_generator(torch.device("cpu"), seed, 21))
    val = Document(world, "validation scenes")
    absent = Document(world, "validation scenes, the names of absent categories")
    two = Document(world, "validation scenes, two objects of one category as one instance")
    val.images = absent.images = two.images = save_images(scenes, folder / "images", 1)
    for i, kinds in enumerate(scenes.category.tolist(), start=1):
        shown = {world.categories[k] for k in kinds if k >= 0}
        missing = [name for name in world.categories if name not in shown]
        groups: dict[str, list[np.ndarray]] = defaultdict(list)
        first = i % 2 == 1
        for mask, kind in zip(scenes.masks[i - 1].numpy(), kinds, strict=True):
            if kind < 0:
                continue
            name, outlines, area = world.categories[kind], polygons(mask), float(mask.sum())
            val.add(i, name, outlines, area)
            other = missing[sample_seed(seed, f"{i}:{len(val.annotations)}") % len(missing)]
            if first:
                absent.add(i, other, outlines, area)
            first = False
            groups[name].append(mask)
        for name, masks in groups.items():
            if len(masks) >= 2:
                parts = [outline for mask in masks[:2] for outline in polygons(mask)]
                two.add(i, name, parts, float(sum(mask.sum() for mask in masks[:2])))
    crowded = crowds(world, folder / "images", seed)
    for name, document in (("val", val), ("absent", absent), ("two_holes", two)):
        document.write(folder / f"instances_{name}.json")
    crowded.write(folder / "instances_crowded.json")
    return {
        "images": COUNT,
        "annotations": len(val.annotations),
        "crowded": len(crowded.annotations),
        "two_holes": len(two.annotations),
    }


def crowds(world: World, folder: Path, seed: int) -> Document:
    """CROWDED scenes of `max_objects` objects of one category each, all of them visible."""
    sampler = replace(
        SceneSampler(world, SpriteSheet.load(world, "val"), scale=(0.3, 0.45)),
        repeats=1.0,
        counts=(0.0,) * (world.max_objects - 1) + (1.0,),
    )
    drawn = sampler.sample(4 * CROWDED, make_generator(torch.device("cpu"), seed, 22))
    whole = (drawn.category >= 0).all(1).nonzero()[:CROWDED, 0]
    scenes = Scenes(
        drawn.image[whole], drawn.masks[whole], drawn.category[whole], drawn.clear[whole]
    )
    document = Document(world, "scenes crowded with one category")
    document.images = save_images(scenes, folder, COUNT + 1)
    for image, masks, kinds in zip(document.images, scenes.masks, scenes.category, strict=True):
        for mask, kind in zip(masks.numpy(), kinds.tolist(), strict=True):
            name = world.categories[kind]
            document.add(image["id"], name, polygons(mask), float(mask.sum()))
    return document
