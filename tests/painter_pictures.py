"""Pictures and masks of any size to paint, and how to compare them."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng([seed, width, height])
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def disc(width: int, height: int) -> Image.Image:
    mask = Image.new("L", (width, height))
    box = (width * 0.25, height * 0.2, width * 0.75, height * 0.8)
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    return mask


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def same_outside(a: Image.Image, b: Image.Image, mask: Image.Image) -> bool:
    kept = np.asarray(mask) < 128
    return bool((array(a)[kept] == array(b)[kept]).all())
