"""Eq. 16 on the embedded world: the three ways to enlarge, in numbers and as a picture.

    python scripts/highres_mini.py [--scenes 4] [--out docs/highres.png] [--steps 20]

Fine validation scenes of 512 x 512 pixels (`profi.mini.fine_scenes`); of each the first object is
painted again under the box around it, by the shipped models. The scenes are the first ones of
generator seed 0; none is chosen.
"""

from __future__ import annotations

import argparse
from dataclasses import astuple, fields, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import profi
from profi.highres import HIGHRES, WAYS, Compared, Enlarging, Measures, compare, measures
from profi.highres.measures import distance_of
from profi.metrics.functional import bounding_box
from profi.metrics.lpips import FeatureDistance
from profi.mini.fine_scenes import FineScenes
from profi.mini.scenes import with_article
from profi.mini.world import world
from profi.models.devices import silence_libraries
from profi.settings.paths import SHIPPED, shipped_path

CROP = 256
DETECTOR = f"{SHIPPED}cpu/detector"
LABELS = {
    "given": "given, with the mask's edge",
    "bicubic": "bicubic",
    "free": "upscaler",
    "eq16": "upscaler with eq. 16",
}


def main() -> None:
    """Print a line per way: the mean of each measure; write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--rows", type=int, default=2, help="scenes of the picture")
    parser.add_argument("--steps", type=int, default=20, help="of the inpainting")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    silence_libraries()
    size, painter = world("cpu"), profi.load("mini", device="cpu")
    upscaler = painter.upscaler("mini")
    settings = replace(HIGHRES["ours"], result="worked")
    distance = distance_of(FeatureDistance.from_pretrained(str(shipped_path(DETECTOR))))
    of_scenes, generator = FineScenes.load(size, "val"), torch.Generator().manual_seed(0)
    numbers: dict[str, list[Measures]] = {way: [] for way in WAYS}
    rows = []
    for i in range(args.scenes):
        scene = of_scenes.sample(1, generator)  # one by one: the same for any number of scenes
        category = int(scene.category[0, 0])
        seen = scene.masks[0, 0].numpy()
        if category < 0:
            continue
        box = bounding_box(seen)
        mask = np.zeros_like(seen)
        mask[box.top : box.bottom, box.left : box.right] = True
        prompt = with_article(size.categories[category])
        work = painter.enlarging(
            scene.image[0], mask, prompt, highres=settings, seed=i, steps=args.steps
        )
        found = compare(work, upscaler, prompt, seed=i)
        for one in found:
            numbers[one.way].append(measures(work, one, distance))
        rows.append((work, mask, found))
        print(f"scene {i}: {prompt}", flush=True)
    print("way " + " ".join(f"{f.name:>13}" for f in fields(Measures)))
    for way, of in numbers.items():
        means = np.array([astuple(one) for one in of]).mean(0)
        print(f"{way:8}" + " ".join(f"{mean:13.4g}" for mean in means))
    if args.out is not None:
        sheet = [row(*one) for one in rows[: args.rows]]
        Image.fromarray(np.concatenate([heading(), *sheet])).save(args.out, optimize=True)


def row(work: Enlarging, mask: np.ndarray, found: list[Compared]) -> np.ndarray:
    """The given picture and the three results, cut at the middle of the mask's upper edge."""
    given = (work.cut(work.large) * 255).round().byte().permute(1, 2, 0).numpy().copy()
    box = bounding_box(mask)
    given[[box.top, box.bottom - 1], box.left : box.right] = 255
    given[box.top : box.bottom, [box.left, box.right - 1]] = 255
    top = int(np.clip(box.top - CROP // 3, 0, mask.shape[0] - CROP))
    left = int(np.clip((box.left + box.right - CROP) // 2, 0, mask.shape[1] - CROP))
    part = (slice(top, top + CROP), slice(left, left + CROP))
    return np.concatenate([given[part], *(one.picture[part] for one in found)], 1)


def heading() -> np.ndarray:
    """The columns' labels."""
    strip = Image.new("RGB", (CROP * len(LABELS), 18), "white")
    for i, label in enumerate(LABELS.values()):
        ImageDraw.Draw(strip).text((i * CROP + 4, 3), label, fill="black")
    return np.asarray(strip)


if __name__ == "__main__":
    main()
