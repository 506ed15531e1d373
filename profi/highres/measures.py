"""Numbers that compare ways to enlarge (figs. 14, 20, 21)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from torch import Tensor

from profi.highres.enlarging import Compared, Enlarging, array
from profi.highres.latent_masks import box_dilated
from profi.metrics.functional import known_region_psnr

#: Sigmas in pixels: of the filter whose remainder is the texture, and of the window it is over.
FINE, WINDOW = 2.0, 12.0
#: From two pictures uint8 [H, W, 3] to their distance.
Distance = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Measures:
    """Numbers of one way.

    Fields:
        known_psnr: dB of the painted picture before the Poisson step, outside the mask.
        seam: mean absolute step in levels across the mask's edge, where the painted pixels lie in
            the given ones without any blend.
        seam_blended: the same across the edge of the region that the last blend changes, in the
            result.
        texture: the strength of fine detail (levels) in the painted hole over that of the known
            region around it; 1: equally rich.
        distance: of the painted picture to the original around the hole, before the Poisson step
            (see `measures`); NaN without a function for it.
    """

    known_psnr: float
    seam: float
    seam_blended: float
    texture: float
    distance: float


def measures(enlarging: Enlarging, one: Compared, distance: Distance | None = None) -> Measures:
    """The numbers of one way, at the worked size.

    `distance`, such as LPIPS, gets the square around the hole (its box and as much again) of the
    painted picture, with the original's pixels in the hole, and of the original.
    """
    original = array(enlarging.cut(enlarging.large))
    mask = enlarging.hole[: enlarging.height, : enlarging.width].numpy()
    pasted = np.where(mask[..., None], one.painted, original)
    blended_region = box_dilated(mask, enlarging.settings.margin)
    blended = one.picture if one.picture.shape == original.shape else None
    around = ring(mask)
    inner = texture(one.painted)[mask].mean()
    outer = texture(original)[around].mean() if around.any() else math.nan
    far = math.nan
    if distance is not None:
        part = square_around(mask)
        filled = np.where(mask[..., None], original, one.painted)
        far = distance(filled[part], original[part])
    return Measures(
        known_region_psnr(one.painted, original, mask),
        edge_step(pasted, mask),
        math.nan if blended is None else edge_step(blended, blended_region),
        float(inner / outer) if outer else math.nan,
        far,
    )


def edge_step(picture: np.ndarray, mask: np.ndarray) -> float:
    """Mean absolute difference, in levels, of neighbouring pixels on two sides of a mask's edge.

    Pictures are uint8 [H, W, 3]. NaN for a mask without an edge.
    """
    levels = picture.astype(np.float64)
    found = [
        np.abs(np.diff(levels, axis=axis))[np.diff(mask, axis=axis)].ravel() for axis in (0, 1)
    ]
    every = np.concatenate(found)
    return float(every.mean()) if every.size else math.nan


def texture(picture: np.ndarray) -> np.ndarray:
    """The local strength of fine detail [H, W] of a picture uint8 [H, W, 3], in levels."""
    grey = picture.astype(np.float64).mean(-1)
    fine = grey - gaussian_filter(grey, FINE)
    return np.sqrt(np.maximum(gaussian_filter(fine**2, WINDOW), 0.0))


def ring(mask: np.ndarray, width: int = 49) -> np.ndarray:
    """The known pixels within half of `width` around a mask [H, W] bool."""
    return box_dilated(mask, width) & ~mask


def square_around(mask: np.ndarray) -> tuple[slice, slice]:
    """The mask's bounding box, with half of its sides more in each direction."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    parts = []
    for found, side in ((rows, mask.shape[0]), (columns, mask.shape[1])):
        more = (found[-1] - found[0] + 1) // 2
        parts.append(slice(max(0, found[0] - more), min(side, found[-1] + 1 + more)))
    return parts[0], parts[1]


def distance_of(model: Callable[[Tensor, Tensor], Tensor]) -> Distance:
    """A `Distance` by a model of image batches in [0, 1], such as LPIPS (profi.metrics)."""
    import torch

    def distance(one: np.ndarray, two: np.ndarray) -> float:
        pair = [torch.from_numpy(p.copy()).permute(2, 0, 1)[None] / 255.0 for p in (one, two)]
        return float(model(*pair))

    return distance
