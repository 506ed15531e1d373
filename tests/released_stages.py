"""The released evaluation's stages once more, straight from its description, with OpenCV and PIL.

And a file of instances with the shapes that hurt. Nothing here uses profi.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
BICUBIC = Image.Resampling.BICUBIC


@dataclass(frozen=True)
class Stages:
    """What becomes of one row of the list; pictures uint8, masks bool."""

    name: str
    prompt: str
    hull: np.ndarray
    picture: np.ndarray
    mask: np.ndarray
    padded_picture: np.ndarray
    padded_mask: np.ndarray
    dilated: np.ndarray
    latent: np.ndarray
    h16: np.ndarray
    h32: np.ndarray

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom; the last two are not in it."""
        ys, xs = np.where(self.mask)
        return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def released_row(content: dict[str, Any], images: Path, image_idx: int, segment_idx: int) -> Stages:
    """The stages of a row; the mask is empty where the hull lies outside the picture."""
    info = {image["id"]: image for image in content["images"]}
    image_id = sorted(info)[image_idx]
    polygons = [
        a
        for a in content["annotations"]
        if a["image_id"] == image_id and isinstance(a["segmentation"], list)
    ]
    annotation = polygons[segment_idx]
    picture = Image.open(images / info[image_id]["file_name"]).convert("RGB")
    width, height = picture.size

    points = [np.array(polygon).reshape(-1, 2) for polygon in annotation["segmentation"]]
    outline = cv2.convexHull(np.concatenate(points).astype(np.int32))
    hull = np.zeros((height, width), np.uint8)
    cv2.drawContours(hull, [outline], -1, 255, thickness=cv2.FILLED)

    r = width / height
    size = (min(512, int(512 * r)), min(512, int(512 / r)))
    small = np.asarray(picture.resize(size, BICUBIC))
    mask = np.asarray(Image.fromarray(hull).resize(size, BICUBIC)) > 0
    dilated = cv2.dilate(mask.astype(np.uint8), CROSS, iterations=1)

    w, h = size
    padding = ((0, -h % 64), (0, -w % 64))
    padded = np.pad(dilated, padding)
    H, W = padded.shape

    def resized(factor: int) -> np.ndarray:
        grey = Image.fromarray(padded * 255)
        return np.asarray(grey.resize((W // factor, H // factor), BICUBIC))

    names = {category["id"]: category["name"] for category in content["categories"]}
    return Stages(
        name=f"{image_id}_{segment_idx}",
        prompt=names[annotation["category_id"]],
        hull=hull > 0,
        picture=small,
        mask=mask,
        padded_picture=np.pad(small, (*padding, (0, 0))),
        padded_mask=np.pad(mask, padding),
        dilated=padded > 0,
        latent=resized(8) > 0,
        h16=resized(16) / 255 > 0.5,
        h32=resized(32) / 255 > 0.5,
    )


def released_noise(seed: int, h: int, w: int) -> torch.Tensor:
    """The start noise [1, 4, h, w] of every picture of a size."""
    generator = torch.Generator(device="cpu").manual_seed(seed)
    return torch.randn((1, 4, h, w), generator=generator, dtype=torch.float32).to(torch.float16)


def clip_input(painted: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """The crop of a picture (uint8 [h, w, 3]) as CLIP gets it: uint8 [224, 224, 3]."""
    left, top, right, bottom = box
    crop = painted[top:bottom, left:right]
    h, w = crop.shape[:2]
    side = max(h, w)
    y, x = (side - h) // 2, (side - w) // 2
    square = np.pad(crop, ((y, side - h - y), (x, side - w - x), (0, 0)))
    return cv2.resize(square, (224, 224), interpolation=cv2.INTER_CUBIC)


def write_instances(folder: Path, seed: int, n_images: int) -> tuple[Path, list[tuple[int, int]]]:
    """A file of instances with its images (in `images`), and a list of rows in no order.

    Ids have gaps, the file's order is unlike the ids', and of shapes there are several parts,
    floats, points on the border and beyond, lines, two points, one, parts of a pixel, polygons of
    crowds, run lengths of crowds and of single objects.
    """
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    ids = rng.choice(10_000, n_images, replace=False)
    for image_id in (int(n) for n in ids):
        height, width = (int(n) for n in rng.integers(90, 700, 2))
        coarse = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
        name = f"{image_id:012d}.png"
        Image.fromarray(coarse).resize((width, height), BICUBIC).save(folder / "images" / name)
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for _ in range(int(rng.integers(1, 7))):
            annotations.append({"image_id": image_id, **_instance(rng, height, width)})
    rng.shuffle(images)
    rng.shuffle(annotations)
    numbers = rng.choice(100_000, len(annotations), replace=False)
    for annotation, number in zip(annotations, numbers, strict=True):
        annotation["id"] = int(number)
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    rows = []
    for index, image_id in enumerate(sorted(int(n) for n in ids)):
        of_image = [a for a in annotations if a["image_id"] == image_id]
        n_polygons = sum(isinstance(a["segmentation"], list) for a in of_image)
        rows += [(index, segment) for segment in range(n_polygons)]
    rng.shuffle(rows)
    return path, [(int(a), int(b)) for a, b in rows]


def _instance(rng: np.random.Generator, height: int, width: int) -> dict[str, Any]:
    """One annotation without its ids."""
    kind = rng.choice(
        [
            "floats",
            "parts",
            "border",
            "beyond",
            "line",
            "two",
            "one",
            "tiny",
            "crowd",
            "rle",
            "thin",
        ]
    )
    category = int(rng.choice([1, 18]))
    if kind == "rle":
        counts = [int(rng.integers(1, height)), 7, height * width]
        counts[2] -= sum(counts[:2])
        segmentation: Any = {"counts": counts, "size": [height, width]}
        return {
            "segmentation": segmentation,
            "iscrowd": int(rng.integers(2)),
            "category_id": category,
        }
    scale = np.array([width, height])
    centre, reach = rng.uniform(0.2, 0.8, 2), rng.uniform(0.02, 0.4)

    def polygon(n: int) -> np.ndarray:
        return (centre + rng.uniform(-reach, reach, (n, 2))) * scale

    parts = [np.clip(polygon(int(rng.integers(3, 30))), 0, scale - 1)]
    if kind == "parts":
        parts += [np.clip(polygon(4), 0, scale - 1) for _ in range(int(rng.integers(1, 4)))]
    elif kind == "border":
        parts = [np.clip(polygon(8) + rng.choice([-1, 1], 2) * scale * 0.5, 0, scale)]
    elif kind == "beyond":
        parts = [polygon(8) + rng.choice([-1, 1], 2) * scale * 0.4]
    elif kind == "line":
        start, step = rng.integers(5, 60, 2), rng.integers(-2, 9, 2)
        parts = [start + np.arange(4)[:, None] * step]
    elif kind in ("two", "one"):
        parts = [np.clip(polygon(2 if kind == "two" else 1), 0, scale - 1)]
    elif kind == "tiny":
        parts = [centre * scale + rng.uniform(0, 0.7, (4, 2))]
    elif kind == "thin":
        x = float(rng.integers(5, width - 5))
        parts = [np.array([[x, 3.0], [x + 0.4, height - 4.0], [x + 0.9, 20.0]])]
    flat = [part.ravel().round(2).tolist() for part in parts]
    return {"segmentation": flat, "iscrowd": int(kind == "crowd"), "category_id": category}
