"""Examples to paint in: validation scenes of the embedded world, each with a mask and a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from io import BytesIO

import torch
from PIL import Image

from profi.data.coco import read_coco
from profi.data.manifest import sample_triplets
from profi.data.masks import triplet_mask
from profi.data.pictures import load_image
from profi.picture_file import one_bit_png
from profi.settings.paths import shipped_path
from profi.types import Triplet

ROOT = "shipped:cpu/data/images"
ANNOTATIONS = "shipped:cpu/data/instances_absent.json"
# Of masks between these shares of the picture: not a speck, and something is left around it.
SHARES = (0.08, 0.3)


@dataclass(frozen=True)
class Example:
    """A scene's PNG, a mask's PNG and a prompt: something that the scene lacks."""

    picture: bytes
    mask: bytes
    prompt: str


@dataclass
class Examples:
    """The first `count` examples in the seeded order of the benchmark's sampling."""

    count: int = 8

    @cached_property
    def all(self) -> tuple[Example, ...]:
        """The examples, read at the first use; each prompt and scene once."""
        found: dict[str, Triplet] = {}
        scenes: set[int] = set()
        candidates = read_coco(shipped_path(ANNOTATIONS)).triplets
        for triplet in sample_triplets(candidates, None, seed=0):
            if triplet.prompt in found or triplet.image_id in scenes:
                continue
            if not SHARES[0] <= triplet_mask(triplet).mean() <= SHARES[1]:
                continue
            found[triplet.prompt] = triplet
            scenes.add(triplet.image_id)
            if len(found) == self.count:
                break
        return tuple(_example(triplet) for triplet in found.values())


def _example(triplet: Triplet) -> Example:
    file = BytesIO()
    Image.fromarray(load_image(shipped_path(ROOT), triplet)).save(file, format="PNG")
    mask = one_bit_png(torch.from_numpy(triplet_mask(triplet)))
    return Example(file.getvalue(), mask, triplet.prompt)
