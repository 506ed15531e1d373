"""The mask at the sizes where the method needs it, in both readings.

`nearest`: the mask, resized by nearest neighbours straight from the image's size.
`pil_bicubic`: the mask is first dilated once by a 3x3 cross. Then, by PIL's bicubic filter on
8-bit greys: for the attention more than a half, for the UNet's mask channel anything above zero.
In that reading the dilated mask is the mask everywhere, also where the image is blanked out for
the VAE: an assumption, since a ring that is unknown to the UNet but shown by the VAE makes no
sense. (Only a blend with the given image uses the mask as given.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

MaskResizing = Literal["nearest", "pil_bicubic"]


@dataclass(frozen=True)
class MaskPyramid:
    """A batch of masks at all sizes, bool, True = inpaint.

    `image` [B, H, W]; `latent` [B, h, w], for the UNet's mask channel; `levels`, for attention,
    per down-factor f of the latents [B, h / f, w / f]. A small mask may vanish at a level.
    """

    image: Tensor
    latent: Tensor
    levels: dict[int, Tensor]

    def flat(self, down_factor: int) -> Tensor:
        """The mask of a level as [B, N]."""
        return self.levels[down_factor].flatten(1)


def mask_pyramid(
    masks: Tensor, latent_factor: int, down_factors: Sequence[int], resizing: MaskResizing
) -> MaskPyramid:
    """All sizes of masks [B, H, W] bool; H and W must be multiples of every size's factor."""
    H, W = masks.shape[1:]
    h, w = H // latent_factor, W // latent_factor
    sizes = {factor: (h // factor, w // factor) for factor in down_factors}
    if resizing == "nearest":
        levels = {factor: _nearest(masks, size) for factor, size in sizes.items()}
        return MaskPyramid(masks, _nearest(masks, (h, w)), levels)
    masks = dilated(masks)
    levels = {factor: _bicubic(masks, size) > 127.5 for factor, size in sizes.items()}
    return MaskPyramid(masks, _bicubic(masks, (h, w)) > 0, levels)


def dilated(masks: Tensor) -> Tensor:
    """One dilation of [B, H, W] bool by a 3x3 cross."""
    grown = masks.clone()
    grown[:, 1:] |= masks[:, :-1]
    grown[:, :-1] |= masks[:, 1:]
    grown[:, :, 1:] |= masks[:, :, :-1]
    grown[:, :, :-1] |= masks[:, :, 1:]
    return grown


def _nearest(masks: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(masks[:, None].float(), size=size, mode="nearest")[:, 0] > 0.5


def _bicubic(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """PIL's bicubic resize of 0/255 greys, [B, *size] in 0..255, uint8."""
    greys = (masks.to("cpu", torch.uint8) * 255).numpy()
    resized = [
        np.asarray(Image.fromarray(grey).resize((size[1], size[0]), Image.Resampling.BICUBIC))
        for grey in greys
    ]
    return torch.from_numpy(np.stack(resized)).to(masks.device)
