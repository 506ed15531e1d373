"""Reading a user's image and mask, of any size and mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from profi.types import UserError

WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def read_image(path: Path) -> Tensor:
    """An image file as RGB [3, H, W], float32 in [0, 1].

    Greyscale gives three equal channels. Palettes and CMYK are converted to RGB. Transparent
    pixels are put on white. 16-bit greys are divided by 65535. The EXIF orientation is applied.
    Raises UserError if the file is missing, damaged, not an image, or has floating-point pixels.
    """
    return rgb_tensor(_open(path), WHITE, path)


def read_mask(path: Path) -> Tensor:
    """A mask file as [H, W] bool: True (inpaint) where it is brighter than middle grey.

    It is read like an image, but transparent pixels are put on black: they are kept.
    """
    return rgb_tensor(_open(path), BLACK, path).mean(dim=0) > 0.5


def read_pair(image_path: Path, mask_path: Path) -> tuple[Tensor, Tensor]:
    """An image [3, H, W] and its mask [H, W]; raises UserError if their sizes differ."""
    image, mask = read_image(image_path), read_mask(mask_path)
    if image.shape[1:] != mask.shape:
        (h, w), (mask_h, mask_w) = image.shape[1:], mask.shape
        raise UserError(
            f"mask {mask_path} is {mask_w}x{mask_h} and image {image_path} is {w}x{h}; "
            "give a mask of the image's size"
        )
    return image, mask


def _open(path: Path) -> Image.Image:
    """A decoded image, upright."""
    try:
        with Image.open(path) as file:
            file.load()
            return ImageOps.exif_transpose(file)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; check the path") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not a readable image; give a PNG or JPEG") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} has too many pixels to read safely; scale it down") from error
    # PIL reports damaged data as OSError, and damaged PNG chunks as SyntaxError.
    except (OSError, SyntaxError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read ({reason}); give an intact PNG or JPEG") from error


def rgb_tensor(image: Image.Image, backdrop: tuple[int, int, int], name: str | Path) -> Tensor:
    """An image of any mode but F as [3, H, W] float32 in [0, 1]; errors mention `name`."""
    if image.mode == "F":
        raise UserError(f"{name} has floating-point pixels; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        greys = np.asarray(image).astype(np.int64)
        if greys.min() < 0 or greys.max() > 65535:
            raise UserError(f"{name} has more than 16 bits per pixel; save it with 8 or 16 bits")
        grey = torch.from_numpy(greys.astype(np.float32) / 65535.0)
        return grey.expand(3, -1, -1).clone()
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (*backdrop, 255)), layer)
    rgb = np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0
    return torch.from_numpy(rgb).permute(2, 0, 1).contiguous()
