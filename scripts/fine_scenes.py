"""Write scenes of the embedded world at four times its size as a data set for `data=folder`.

    python scripts/fine_scenes.py outputs/fine_scenes [--count 24] [--seed 0]

One object of each scene, the front one, is what is to be painted again: its convex hull is the
mask, its category the prompt. Figures 13, 14, 20 and 21 show them.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.spatial import ConvexHull

from profi.data.masks import hull_mask
from profi.mini.fine_scenes import FineScenes
from profi.mini.world import world
from profi.types import UserError


def hull_of_mask(mask: np.ndarray) -> np.ndarray:
    """The convex hull of a mask, bool [H, W], filled."""
    points = np.argwhere(mask)[:, ::-1].astype(float)
    corners = points[ConvexHull(points).vertices]
    return hull_mask(tuple(corners.ravel().tolist()), *mask.shape, "exact")


def main() -> None:
    """Write images/, masks/ and prompts.csv."""
    parser = argparse.ArgumentParser(description="large scenes of the embedded world")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    mini = world("cpu")
    generator = torch.Generator().manual_seed(options.seed)
    scenes = FineScenes.load(mini, "val").sample(options.count, generator)
    rows = []
    for name in ("images", "masks"):
        (options.folder / name).mkdir(parents=True, exist_ok=True)
    for i, (image, masks, kinds) in enumerate(
        zip(scenes.image, scenes.masks.numpy(), scenes.category.tolist(), strict=True)
    ):
        front = max((j for j, kind in enumerate(kinds) if kind >= 0), default=None)
        if front is None:
            continue
        name = f"{i:04d}.png"
        pixels = (image.permute(1, 2, 0) * 255).round().byte().numpy()
        Image.fromarray(pixels).save(options.folder / "images" / name)
        mask = Image.fromarray(hull_of_mask(masks[front]).astype(np.uint8) * 255)
        mask.save(options.folder / "masks" / name)
        rows.append((name, name, mini.categories[kinds[front]]))
    with (options.folder / "prompts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "mask", "prompt"), *rows])
    print(f"{len(rows)} scenes: {options.folder}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
