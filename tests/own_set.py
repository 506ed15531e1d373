"""A set of one's own, as a user lays it out for `data=folder`."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from profi.settings import DataConfig


def write_folder(root: Path, count: int = 4) -> DataConfig:
    """Pictures of four sizes with discs for masks."""
    rows = [["image", "mask", "prompt"]]
    for i in range(count):
        height, width = 30 + 7 * i, 60 - 9 * i
        pixels = np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)
        y, x = np.mgrid[:height, :width]
        disc = np.hypot(y - height / 2, x - width / 2) < 12
        for name, array in (("images", pixels), ("masks", disc)):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / name / f"{i}.png")
        rows.append([f"{i}.png", f"{i}.png", ["a glass teapot", "apple"][i % 2]])
    with (root / "prompts.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return DataConfig(name="folder", source="folder", root=str(root), annotations="")
