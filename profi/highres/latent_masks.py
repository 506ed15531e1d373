"""Padding by reflection, and M_low of eq. 16."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import binary_dilation, generate_binary_structure, maximum_filter
from torch import Tensor
from torch.nn import functional

from profi.fitting import Extent, bicubic_greys, fit_mask
from profi.settings.highres import MaskLow


def reflected(picture: Tensor, size: Extent) -> Tensor:
    """A picture [..., h, w] padded right and bottom to `size` by reflection.

    The edge itself is not repeated; where the padding is wider than the picture, the reflection is
    reflected again.
    """
    below, beyond = size[0] - picture.shape[-2], size[1] - picture.shape[-1]
    sides = [(0, 0)] * (picture.ndim - 2) + [(0, below), (0, beyond)]
    return torch.from_numpy(np.pad(picture.numpy(), sides, mode="reflect"))


def latent_mask(mask: Tensor, size: Extent, kind: MaskLow, dilation: int, blur: int) -> Tensor:
    """M_low [h, w] in [0, 1], float32, of a padded mask [H, W] bool; `size` is (h, w).

    First the mask is dilated by a 3x3 cross `dilation` times. soft: PIL's bicubic on bytes, then a
    Gaussian filter of `blur` x `blur` latents. hard: 1 for every latent that the mask touches.
    """
    if dilation:
        cross = generate_binary_structure(2, 1)
        mask = torch.from_numpy(binary_dilation(mask.numpy(), cross, iterations=dilation))
    if kind == "hard":
        return fit_mask(mask, size, "covering").float()
    return gaussian(bicubic_greys(mask, size).float() / 255.0, blur)


def gaussian(picture: Tensor, side: int) -> Tensor:
    """A picture [h, w] filtered by a Gaussian of `side` x `side` pixels, reflected at its edges.

    The standard deviation is what torchvision and OpenCV take for a filter of this size.
    """
    reach, sigma = side // 2, 0.3 * ((side - 1) * 0.5 - 1) + 0.8
    if reach == 0:
        return picture
    place = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (place / sigma) ** 2)
    kernel /= kernel.sum()
    padded = torch.from_numpy(np.pad(picture.numpy(), reach, mode="reflect"))[None, None]
    rows = functional.conv2d(padded, kernel.view(1, 1, -1, 1))
    return functional.conv2d(rows, kernel.view(1, 1, 1, -1))[0, 0].clamp(0.0, 1.0)


def box_dilated(mask: np.ndarray, side: int) -> np.ndarray:
    """A mask [H, W] bool dilated by a box of `side` x `side` pixels.

    With an even side it grows one pixel farther right and down, as OpenCV's `dilate`.
    """
    return maximum_filter(mask, size=side, mode="constant", cval=0)
