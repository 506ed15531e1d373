"""Fitting of an image and its mask to a model's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from profi.settings.evaluation import Bytes, Dilation, Evaluation, MaskFit, PictureFit, Size
from profi.types import UserError

#: (height, width) in pixels.
Extent = tuple[int, int]


@dataclass(frozen=True)
class Fitted:
    """An image [3, H, W] and mask [H, W] at a model's size; the content is the top left part.

    `height` and `width` are the size of the content, without the padding.
    """

    image: Tensor
    mask: Tensor
    height: int
    width: int


def working_size(given: Sequence[int], long_side: int, rule: Size) -> Extent:
    """The `given` (height, width) scaled so that the long side is `long_side`; small ones grow.

    `rounded`: the other side is rounded to the nearest pixel. `truncated`: the released code's
    formula, in floats: min(L, int(L * r)) and min(L, int(L / r)) with r = width / height.
    """
    if long_side < 1:
        raise UserError(f"long_side={long_side}: must be positive")
    height, width = given
    if rule == "truncated":
        r = width / height
        sides = min(long_side, int(long_side / r)), min(long_side, int(long_side * r))
    else:
        scale = long_side / max(height, width)
        sides = round(height * scale), round(width * scale)
    return max(1, sides[0]), max(1, sides[1])


def padded_size(size: Extent, multiple: int) -> Extent:
    """`size` with both sides rounded up to a multiple."""
    if multiple < 1:
        raise UserError(f"pad_multiple={multiple}: must be positive")
    return size[0] + -size[0] % multiple, size[1] + -size[1] % multiple


def fit(
    image: Tensor, mask: Tensor, long_side: int, multiple: int, evaluation: Evaluation
) -> Fitted:
    """Fit an image [3, H, W] in [0, 1] and its mask [H, W] bool to the working size and pad them.

    The padding is on the right and at the bottom; it is black and known (mask False).
    """
    height, width = size = working_size(mask.shape, long_side, evaluation.size)
    H, W = padded_size(size, multiple)
    padding = (0, W - width, 0, H - height)
    image = fit_picture(image, size, evaluation.picture)
    mask = fit_mask(mask, size, evaluation.mask)
    return Fitted(functional.pad(image, padding), functional.pad(mask, padding), height, width)


def fit_picture(image: Tensor, size: Extent, rule: PictureFit) -> Tensor:
    """Resize an image [3, H, W] in [0, 1].

    `antialiased`: torch's antialiased bicubic on floats; an image of that size is returned as is.
    `pil_bicubic`: PIL's bicubic (also antialiased) on bytes.
    """
    if rule == "pil_bicubic":
        pixels = bytes_of(image, "rounded").permute(1, 2, 0).contiguous().numpy()
        fitted = torch.from_numpy(_pil_bicubic(pixels, size))
        return fitted.permute(2, 0, 1).contiguous() / 255.0
    if image.shape[1:] == size:
        return image
    fitted = functional.interpolate(image[None], size=size, mode="bicubic", antialias=True)[0]
    return fitted.clamp(0.0, 1.0)


def fit_mask(mask: Tensor, size: Extent, rule: MaskFit) -> Tensor:
    """Resize a mask [H, W] bool. Neither rule shifts a mask or loses a thin one.

    `covering`: every new pixel that overlaps a masked one, so no rim of the object remains.
    `pil_bicubic`: every pixel above 0 after PIL's bicubic on bytes; the mask grows by the filter's
    reach.
    """
    if rule == "pil_bicubic":
        return bicubic_greys(mask, size) > 0
    return functional.adaptive_max_pool2d(mask[None].float(), size)[0] > 0.5


def bicubic_greys(mask: Tensor, size: Extent) -> Tensor:
    """PIL's bicubic resize of a mask [H, W] bool as greys 0 and 255: uint8 [h, w]."""
    greys = (mask.to("cpu", torch.uint8) * 255).numpy()
    return torch.from_numpy(_pil_bicubic(greys, size)).to(mask.device)


def unfit(painted: Tensor, fitted: Fitted) -> Tensor:
    """Crop the padding off [..., H, W]."""
    return painted[..., : fitted.height, : fitted.width]


def contents(batch: Sequence[Fitted], rule: Dilation) -> list[Extent] | None:
    """The `contents` of an `Inpainter`: sizes without padding; None if masks may grow into it."""
    if rule == "after_padding":
        return None
    return [(fitted.height, fitted.width) for fitted in batch]


def bytes_of(image: Tensor, rule: Bytes) -> Tensor:
    """An image in [0, 1] as uint8 of the same shape, rounded or truncated."""
    levels = image.clamp(0.0, 1.0) * 255.0
    return (levels.round() if rule == "rounded" else levels).to(torch.uint8)


def _pil_bicubic(pixels: np.ndarray, size: Extent) -> np.ndarray:
    """PIL's bicubic of uint8 [H, W] or [H, W, 3]."""
    resized = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.array(resized)
