"""Numbers that compare ways to enlarge (figs. 14, 20, 21)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from profi.highres.enlarging import Compared, Enlarging
from profi.highres.latent_masks import box_dilated
from profi.metrics.functional import decibels, known_region_psnr

#: Sigmas in pixels: of the filter whose remainder is the texture, and of the window it is over.
FINE, WINDOW = 2.0, 12.0
#: The least side in pixels of the square that a distance is over, where the picture has it:
#: networks need some 32.
LEAST = 64
#: From two pictures uint8 [H, W, 3] to their distance.
Distance = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Measures:
    """Numbers of one way.

    Fields:
        known_psnr: dB of the painted picture before the Poisson step, outside the mask.
        faithful: dB of the painted picture in the hole, averaged down to the low size, against the
            low picture: whether it shows what was painted there.
        seam: mean absolute step in levels across the mask's edge, where the painted pixels lie in
            the given ones without any blend.
        seam_blended: the same across the edge of the region that the last blend changes, in the
            result.
        texture: the strength of fine detail (levels) in the painted hole over that of the known
            region around it; 1: equally rich.
        distance: of the painted picture to the original around the hole, before the Poisson step
            (see `measures`); NaN without a function for it.

    What does not exist is NaN: there is no known region around a mask of the whole picture.
    """

    known_psnr: float
    faithful: float
    seam: float
    seam_blended: float
    texture: float
    distance: float


def measures(enlarging: Enlarging, one: Compared, distance: Distance | None = None) -> Measures:
    """The numbers of one way, at the worked size.

    `distance`, such as LPIPS, gets the part around the hole (`around`) of the painted picture, with
    the original's pixels in the hole, and of the original.
    """
    original, mask = enlarging.original, enlarging.worked_mask
    pasted = np.where(mask[..., None], one.painted, original)
    blended_region = box_dilated(mask, enlarging.settings.margin)
    blended = one.picture if one.picture.shape == original.shape else None
    near = ring(mask)
    inner = texture(one.painted)[mask].mean()
    outer = texture(original)[near].mean() if near.any() else math.nan
    far = math.nan
    part = around(mask)
    if distance is not None and not mask[part].all():
        filled = np.where(mask[..., None], original, one.painted)
        far = distance(filled[part], original[part])
    return Measures(
        known_region_psnr(one.painted, original, mask),
        faithful(one.painted, enlarging.low, mask),
        edge_step(pasted, mask),
        math.nan if blended is None else edge_step(blended, blended_region),
        float(inner / outer) if outer else math.nan,
        far,
    )


def faithful(painted: np.ndarray, low: Tensor, mask: np.ndarray) -> float:
    """PSNR in dB of a painted picture, averaged down to that of the low one, in the hole.

    `painted` is uint8 [H, W, 3], `low` [3, h, w] in [0, 1], `mask` bool [H, W]. Over the low pixels
    that lie in the hole as a whole; NaN if there are none.
    """
    size = (low.shape[1], low.shape[2])
    small = functional.adaptive_avg_pool2d(torch.from_numpy(painted).permute(2, 0, 1) / 255.0, size)
    share = functional.adaptive_avg_pool2d(torch.from_numpy(mask)[None].float(), size)[0]
    inside = share > 1 - 1e-6
    if not inside.any():
        return math.nan
    return decibels(float((small - low)[:, inside].double().square().mean()), 1.0)


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


def around(mask: np.ndarray) -> tuple[slice, slice]:
    """The mask's bounding box with half of its sides more in each direction, LEAST at least."""
    parts = []
    for axis in (1, 0):
        found, side = np.flatnonzero(mask.any(axis)), mask.shape[1 - axis]
        first, last = int(found[0]), int(found[-1]) + 1
        length = min(side, max(2 * (last - first), LEAST))
        start = min(max(0, (first + last - length) // 2), side - length)
        parts.append(slice(start, start + length))
    return parts[0], parts[1]


def distance_of(
    model: Callable[[Tensor, Tensor], Tensor], device: str | torch.device = "cpu"
) -> Distance:
    """A `Distance` by a model on `device` of image batches in [0, 1], such as LPIPS."""

    def distance(one: np.ndarray, two: np.ndarray) -> float:
        pair = [torch.from_numpy(p.copy()).permute(2, 0, 1)[None] / 255.0 for p in (one, two)]
        return float(model(*(picture.to(device) for picture in pair)))

    return distance
