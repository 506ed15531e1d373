"""What a caller may hand over as an image or a mask, brought to the inpainters' tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from profi.data.user_images import BLACK, WHITE, rgb_tensor
from profi.types import UserError

ImageLike = Image.Image | np.ndarray | Tensor
MaskLike = Image.Image | np.ndarray | Tensor

IMAGE_FORMS = (
    "give a PIL image, a numpy array [H, W, 3] or [H, W] (8 or 16 bits, or floats in [0, 1]) or a "
    "tensor [3, H, W]; several as a list"
)
MASK_FORMS = (
    "give a PIL image, or a numpy array or tensor [H, W] (bool, 8 bits or floats in [0, 1]); "
    "several as a list"
)


def image_tensor(image: ImageLike, name: str = "image") -> Tensor:
    """An image as RGB [3, H, W], float32 in [0, 1], on the CPU.

    A PIL image may have any mode but F and is read as `read_image` reads a file (upright,
    transparency on white); uint8 arrays are read like the PIL image of their shape. A tensor has
    its channels first: [3, H, W] or [1, H, W]. Raises UserError, of `name`, for anything else.
    """
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        image = _pil_of(image, name)
    if isinstance(image, Image.Image):
        return rgb_tensor(ImageOps.exif_transpose(image), WHITE, name)
    if isinstance(image, np.ndarray):
        channels = image[..., None] if image.ndim == 2 else image
        image = _tensor_of(channels, name, IMAGE_FORMS).movedim(-1, 0)
    if not isinstance(image, Tensor):
        raise UserError(f"{name} is of type {type(image).__name__}; {IMAGE_FORMS}")
    if image.ndim != 3 or image.shape[0] not in (1, 3) or image.numel() == 0:
        raise UserError(f"{name} has the shape {tuple(image.shape)}; {IMAGE_FORMS}")
    unit = _unit(image, name)
    return unit.expand(3, -1, -1).contiguous()


def mask_tensor(mask: MaskLike, name: str = "mask") -> Tensor:
    """A mask as [H, W] bool, True = inpaint, on the CPU.

    True is what is brighter than middle grey; transparency is laid on black. Integers that are
    only 0 and 1, in an array or a tensor, are taken for the truth values that they are. Raises
    UserError, of `name`, for what is no mask.
    """
    if isinstance(mask, np.ndarray) and mask.ndim == 3:
        if mask.shape[-1] == 1:
            mask = mask[..., 0]
        elif mask.dtype == np.uint8:
            mask = _pil_of(mask, name)
    if isinstance(mask, Image.Image):
        return rgb_tensor(ImageOps.exif_transpose(mask), BLACK, name).mean(dim=0) > 0.5
    if isinstance(mask, np.ndarray):
        mask = _tensor_of(mask, name, MASK_FORMS)
    if not isinstance(mask, Tensor):
        raise UserError(f"{name} is of type {type(mask).__name__}; {MASK_FORMS}")
    if mask.ndim == 3 and mask.shape[0] == 1:
        mask = mask[0]
    if mask.ndim != 2 or mask.numel() == 0:
        raise UserError(f"{name} has the shape {tuple(mask.shape)}; {MASK_FORMS}")
    if not mask.is_floating_point() and bool(((mask == 0) | (mask == 1)).all()):
        return mask.detach().to("cpu", torch.bool)
    return _unit(mask, name) > 0.5


def several(value: Any) -> list[Any]:
    """One picture or a batch as diffusers takes it ([B, ...] or a list), as a list of pictures."""
    if isinstance(value, list | tuple):
        return [item for one in value for item in several(one)]
    if isinstance(value, np.ndarray | Tensor) and value.ndim == 4:
        return list(value)
    return [value]


def several_masks(value: Any) -> list[Any]:
    """`several` of masks, of which a batch may also be [B, H, W]."""
    items = []
    for item in several(value):
        is_batch = isinstance(item, np.ndarray | Tensor) and item.ndim == 3
        if is_batch and isinstance(item, np.ndarray):
            # [H, W, 1], or a picture in colours.
            is_batch = item.shape[-1] != 1 and (item.dtype != np.uint8 or item.shape[-1] > 4)
        items += list(item) if is_batch else [item]
    return items


def pil_image(pixels: Tensor) -> Image.Image:
    """The PIL image (RGB) of uint8 pixels [3, H, W]."""
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))


def _pil_of(pixels: np.ndarray, name: str) -> Image.Image:
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in (3, 4))
    if not fits or pixels.size == 0:
        raise UserError(f"{name} has the shape {pixels.shape}; {IMAGE_FORMS}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def _tensor_of(values: np.ndarray, name: str, forms: str) -> Tensor:
    """A tensor of an array of any numbers; 16-bit ones become floats in [0, 1]."""
    if values.dtype == np.uint16:
        return torch.from_numpy(values.astype(np.float32) / 65535.0)
    if values.dtype.kind not in "buif":
        raise UserError(f"{name} is an array of {values.dtype}; {forms}")
    # Copied: it may be read-only, or have negative strides.
    return torch.from_numpy(values.astype(np.float32 if values.dtype.kind in "bf" else np.int64))


def _unit(values: Tensor, name: str) -> Tensor:
    """Float32 in [0, 1] on the CPU: integers are divided by 255, floats must be in that range."""
    values = values.detach().to("cpu")
    if values.dtype == torch.bool:
        values = values.float()
    unit = values.float() if values.is_floating_point() else values.float() / 255.0
    # Written so that a NaN is refused too.
    if not bool(((unit >= 0.0) & (unit <= 1.0)).all()):
        limit = "[0, 1]" if values.is_floating_point() else "[0, 255]"
        raise UserError(f"{name} has values outside {limit}; scale it to that range")
    return unit
