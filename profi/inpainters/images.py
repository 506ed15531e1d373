"""Fitting an image and its mask to a model's sizes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from profi.types import UserError


@dataclass(frozen=True)
class Fitted:
    """An image [3, H, W] and mask [H, W] that fit a model; the content is the top left part.

    `height` and `width` are the content's, without the padding.
    """

    image: Tensor
    mask: Tensor
    height: int
    width: int


def fit(image: Tensor, mask: Tensor, long_side: int, multiple: int) -> Fitted:
    """Scale the long side to `long_side` and pad right and bottom to a multiple.

    The image [3, H, W] is scaled bicubically (antialiased), the mask [H, W] by nearest
    neighbours; the padding is black and known (mask False). Small images grow.
    """
    if long_side < 1 or multiple < 1:
        raise UserError(f"long_side={long_side}, pad_multiple={multiple}: both must be positive")
    H, W = mask.shape
    scale = long_side / max(H, W)
    height, width = max(1, round(H * scale)), max(1, round(W * scale))
    if (height, width) != (H, W):
        image = functional.interpolate(
            image[None], size=(height, width), mode="bicubic", antialias=True
        )[0]
        image = image.clamp(0.0, 1.0)
        mask = functional.interpolate(
            mask[None, None].float(), size=(height, width), mode="nearest"
        )
        mask = mask[0, 0] > 0.5
    padding = (0, -width % multiple, 0, -height % multiple)
    return Fitted(functional.pad(image, padding), functional.pad(mask, padding), height, width)


def unfit(painted: Tensor, fitted: Fitted) -> Tensor:
    """Crop the padding off [..., H, W]."""
    return painted[..., : fitted.height, : fitted.width]
