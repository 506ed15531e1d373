"""Masks of triplets, from hulls or from run lengths."""

from __future__ import annotations

from typing import cast

import numpy as np
from pycocotools import mask as run_lengths

from profi.data.hulls import hull_mask
from profi.settings.evaluation import Hull
from profi.types import Triplet


def triplet_mask(triplet: Triplet) -> np.ndarray:
    """The mask of a triplet: bool [height, width], True = inpaint."""
    if triplet.rle is None:
        rule = cast(Hull, triplet.filling)
        return hull_mask(triplet.hull, triplet.height, triplet.width, rule)
    size = [triplet.height, triplet.width]
    decoded = run_lengths.decode({"size": size, "counts": triplet.rle.encode()})
    return np.ascontiguousarray(decoded, dtype=np.bool_)


def mask_rle(mask: np.ndarray) -> str:
    """MSCOCO's compressed run lengths of a bool mask [H, W]; `triplet_mask` decodes them."""
    encoded = run_lengths.encode(np.asfortranarray(mask, dtype=np.uint8))
    counts: bytes = encoded["counts"]
    return counts.decode("ascii")
