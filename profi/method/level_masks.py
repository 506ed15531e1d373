"""The mask at the sizes that the method needs, in both readings.

`nearest`: directly from the image's size. A cell is masked if at least half of it is masked. If
this loses a part of the mask, the cells that the part touches are masked, so nothing vanishes. (A
true nearest neighbour looks at one pixel per cell and loses thin parts. torch's `nearest` takes the
first pixel, which also shifts the mask by half a cell.)

`pil_bicubic`: the mask is dilated once by a 3x3 cross and resized by PIL's bicubic filter on 8-bit
greys. For the attention, values above one half are masked; for the UNet's mask channel, values
above zero. Very thin parts vanish from the attention's levels, as in the released code.

`masked_image` chooses the mask that blanks the image for the VAE. "as_resized": the mask from which
the levels are made (the dilated one in `pil_bicubic`; otherwise the VAE would show a ring that the
UNet takes as unknown). "given": the given mask. A blend with the given image always uses the given
mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from profi.fitting import Extent, bicubic_greys
from profi.settings.method import MaskedImage, MaskResizing


@dataclass(frozen=True)
class MaskPyramid:
    """A batch of masks at all sizes, bool, True = inpaint.

    `image` [B, H, W] blanks the image for the VAE. `latent` [B, h, w] is the UNet's mask channel.
    `levels` are for attention, per down-factor f of the latents [B, h / f, w / f]. With
    `pil_bicubic` a small mask may vanish at a level.
    """

    image: Tensor
    latent: Tensor
    levels: dict[int, Tensor]

    def flat(self, down_factor: int) -> Tensor:
        """The mask of a level as [B, N]."""
        return self.levels[down_factor].flatten(1)


def mask_pyramid(
    masks: Tensor,
    latent_factor: int,
    down_factors: Sequence[int],
    resizing: MaskResizing,
    masked_image: MaskedImage = "as_resized",
    contents: Sequence[Extent] | None = None,
) -> MaskPyramid:
    """Masks [B, H, W] bool at all sizes; H and W must be multiples of every size's factor.

    `contents` are the images' (height, width) without their padding; the dilation does not grow
    into the padding. None: there is no padding, or the dilation may grow into it.
    """
    if resizing == "nearest":
        levels = {f: nearest(masks, latent_factor * f) for f in down_factors}
        return MaskPyramid(masks, nearest(masks, latent_factor), levels)
    H, W = masks.shape[1:]
    h, w = H // latent_factor, W // latent_factor
    given, masks = masks, _within(dilated(masks), contents)
    levels = {f: _bicubic(masks, (h // f, w // f)) > 127 for f in down_factors}
    blanked = given if masked_image == "given" else masks
    return MaskPyramid(blanked, _bicubic(masks, (h, w)) > 0, levels)


def nearest(masks: Tensor, factor: int) -> Tensor:
    """Masks [B, H, W] bool in cells of `factor` x `factor` pixels: [B, H / factor, W / factor].

    A cell is masked if at least half of it is masked. A cell with a masked pixel but no such cell
    among its neighbours is lost; lost cells, and cells with masked pixels next to them, are masked
    too.
    """
    pixels = masks[:, None].float()
    touched = functional.max_pool2d(pixels, factor)
    # Shares are multiples of 1 / factor^2, so the tolerance changes no result.
    filled = (functional.avg_pool2d(pixels, factor) > 0.5 - 1e-4).float()
    lost = touched * (1.0 - _around(filled))
    return torch.maximum(filled, touched * _around(lost))[:, 0] > 0.5


def _around(cells: Tensor) -> Tensor:
    """Cells [B, 1, h, w] of 0 and 1, grown by their eight neighbours."""
    return functional.max_pool2d(cells, 3, stride=1, padding=1)


def dilated(masks: Tensor) -> Tensor:
    """One dilation of [B, H, W] bool by a 3x3 cross."""
    grown = masks.clone()
    grown[:, 1:] |= masks[:, :-1]
    grown[:, :-1] |= masks[:, 1:]
    grown[:, :, 1:] |= masks[:, :, :-1]
    grown[:, :, :-1] |= masks[:, :, 1:]
    return grown


def _within(masks: Tensor, contents: Sequence[Extent] | None) -> Tensor:
    """Masks [B, H, W], set to False outside the contents."""
    if contents is None:
        return masks
    kept = torch.zeros_like(masks)
    for mask, inside, (height, width) in zip(masks, kept, contents, strict=True):
        inside[:height, :width] = mask[:height, :width]
    return kept


def _bicubic(masks: Tensor, size: Extent) -> Tensor:
    """`bicubic_greys` of a batch: uint8 [B, *size]."""
    return torch.stack([bicubic_greys(mask, size) for mask in masks])
