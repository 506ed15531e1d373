"""Fitting an image and its mask to a model's sizes."""

from __future__ import annotations

from collections.abc import Callable
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


# Scales a mask [H, W] to (height, width).
MaskScaling = Callable[[Tensor, tuple[int, int]], Tensor]


def nearest(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask's nearest neighbours; what is thinner than a new pixel may vanish."""
    return functional.interpolate(mask[None, None].float(), size=size, mode="nearest")[0, 0] > 0.5


def covering(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Every new pixel that a masked one reaches into: nothing vanishes, no rim is left over."""
    return functional.adaptive_max_pool2d(mask[None].float(), size)[0] > 0.5


def fit(
    image: Tensor, mask: Tensor, long_side: int, multiple: int, scale_mask: MaskScaling = nearest
) -> Fitted:
    """Scale the long side to `long_side` and pad right and bottom to a multiple.

    The image [3, H, W] is scaled bicubically (antialiased), the mask [H, W] by `scale_mask`; the
    padding is black and known (mask False). Small images grow.
    """
    if long_side < 1 or multiple < 1:
        raise UserError(f"long_side={long_side}, pad_multiple={multiple}: both must be positive")
    H, W = mask.shape
    scale = long_side / max(H, W)
    height, width = max(1, round(H * scale)), max(1, round(W * scale))
    if (height, width) != (H, W):
        image, mask = scaled(image, (height, width)), scale_mask(mask, (height, width))
    padding = (0, -width % multiple, 0, -height % multiple)
    return Fitted(functional.pad(image, padding), functional.pad(mask, padding), height, width)


def scaled(image: Tensor, size: tuple[int, int]) -> Tensor:
    """An image [3, H, W] in [0, 1] at another size, bicubically (antialiased)."""
    grown = functional.interpolate(image[None], size=size, mode="bicubic", antialias=True)[0]
    return grown.clamp(0.0, 1.0)


def unfit(painted: Tensor, fitted: Fitted) -> Tensor:
    """Crop the padding off [..., H, W]."""
    return painted[..., : fitted.height, : fitted.width]
