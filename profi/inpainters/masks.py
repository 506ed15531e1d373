"""The mask at the sizes where the method needs it, in both readings.

`nearest`: the mask, resized by nearest neighbours straight from the image's size.
`pil_bicubic`: the mask is first dilated once by a 3x3 cross. Then, by PIL's bicubic filter on
8-bit greys: for the attention more than a half, for the UNet's mask channel anything above zero.
Which of the two masks blanks the image out for the VAE is a choice of its own, `masked_image`:
"as_resized", the mask that the levels were made from (so the dilated one in `pil_bicubic`: a ring
that the UNet takes for unknown but the VAE shows would make no sense), or "given". A blend with
the given image always uses the mask as given.
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
MaskedImage = Literal["as_resized", "given"]


@dataclass(frozen=True)
class MaskPyramid:
    """A batch of masks at all sizes, bool, True = inpaint.

    `image` [B, H, W], what is blanked out for the VAE; `latent` [B, h, w], for the UNet's mask
    channel; `levels`, for attention, per down-factor f of the latents [B, h / f, w / f]. A small
    mask may vanish at a level.
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
) -> MaskPyramid:
    """All sizes of masks [B, H, W] bool; H and W must be multiples of every size's factor."""
    H, W = masks.shape[1:]
    h, w = H // latent_factor, W // latent_factor
    sizes = {factor: (h // factor, w // factor) for factor in down_factors}
    if resizing == "nearest":
        levels = {factor: _nearest(masks, size) for factor, size in sizes.items()}
        return MaskPyramid(masks, _nearest(masks, (h, w)), levels)
    given, masks = masks, dilated(masks)
    levels = {factor: _bicubic(masks, size) > 127.5 for factor, size in sizes.items()}
    blanked = given if masked_image == "given" else masks
    return MaskPyramid(blanked, _bicubic(masks, (h, w)) > 0, levels)


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
