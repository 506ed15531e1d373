"""Preprocessing of uint8 images to a model's input, as its `preprocessor_config.json` says.

It uses only PIL and torch, so scoring needs no torchvision. Like the processors of transformers, it
resizes 8-bit images (PIL's filters, antialiased) before it rescales them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from profi.settings.evaluation import AestheticCrop, ClipResizing

Size = tuple[int, int]


@dataclass(frozen=True)
class Preprocessing:
    """A model's preprocessing.

    Exactly one of `size` and `shorter_side` is set, or neither (no resizing).

    Attributes:
        size: (height, width) in pixels after resizing; proportions may change.
        shorter_side: length of the shorter side after resizing, in pixels.
        longest_side: largest length of the longer side if `shorter_side` is set, in pixels.
        crop_size: (height, width) cut from the centre after resizing, or None.
        resample: PIL filter (2 bilinear, 3 bicubic).
        rescale_factor: multiplies the 8-bit values (1/255, or 1 for none).
        mean: subtracted per RGB channel after rescaling.
        std: divided by per RGB channel.
    """

    size: Size | None
    shorter_side: int | None
    longest_side: int | None
    crop_size: Size | None
    resample: int
    rescale_factor: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Preprocessing:
        """Read a `preprocessor_config.json` with sizes in the older or the newer form.

        Raises:
            ValueError: a size has an unknown form.
        """
        size: Size | None = None
        shorter: int | None = None
        longest: int | None = None
        if config.get("do_resize", True):
            given = config.get("size", 224)
            if isinstance(given, int):
                shorter = given
                longest = config.get("max_size")
            elif "shortest_edge" in given:
                shorter, longest = int(given["shortest_edge"]), given.get("longest_edge")
            elif "height" in given and "width" in given:
                size = (int(given["height"]), int(given["width"]))
            else:
                raise ValueError(f"preprocessor_config.json: cannot read size {given!r}")
        crop_size: Size | None = None
        if config.get("do_center_crop", False):
            given = config["crop_size"]
            crop_size = (
                (given, given) if isinstance(given, int) else (given["height"], given["width"])
            )
        normalise = config.get("do_normalize", True)
        return cls(
            size=size,
            shorter_side=shorter,
            longest_side=longest,
            crop_size=crop_size,
            resample=int(config.get("resample", Image.Resampling.BILINEAR)),
            rescale_factor=(
                float(config.get("rescale_factor", 1 / 255))
                if config.get("do_rescale", True)
                else 1.0
            ),
            mean=_triple(config["image_mean"]) if normalise else (0.0, 0.0, 0.0),
            std=_triple(config["image_std"]) if normalise else (1.0, 1.0, 1.0),
        )

    @property
    def input_size(self) -> Size | None:
        """(height, width) of every tensor that the model gets; None where it varies."""
        return self.crop_size or self.size

    def target_size(self, height: int, width: int) -> Size:
        """(height, width) after resizing a picture of `height` x `width`, before any crop."""
        if self.size is not None:
            return self.size
        if self.shorter_side is None:
            return height, width
        shorter, longer = sorted((height, width))
        goal = self.shorter_side
        if self.longest_side is not None and goal * longer / shorter > self.longest_side:
            # The detectors' rule: the longer side wins.
            goal = round(self.longest_side * shorter / longer)
        other = int(goal * longer / shorter)
        return (goal, other) if height <= width else (other, goal)


def _triple(values: Any) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third


def resize(image: np.ndarray, size: Size, resample: int) -> np.ndarray:
    """`image` (uint8 [H, W, 3]) resized to `size` (height, width) by a PIL filter."""
    if image.shape[:2] == size:
        return image
    height, width = size
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((width, height), Image.Resampling(resample)))


def opencv_cubic(image: np.ndarray, size: Size) -> np.ndarray:
    """`image` (uint8 [H, W, 3]) resized to `size` as by OpenCV's INTER_CUBIC: not antialiased.

    A few bytes in 100,000 differ by one level; of crops of less than four pixels, which OpenCV
    resizes by another code in integers, one byte in 25.
    """
    pixels = torch.from_numpy(np.array(image, copy=True)).permute(2, 0, 1)[None].double()
    resized = functional.interpolate(pixels, size=size, mode="bicubic", antialias=False)[0]
    return resized.round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()


def centre_crop(image: np.ndarray, size: Size, offset: AestheticCrop = "floored") -> np.ndarray:
    """The middle `size` (height, width) of `image` ([H, W, 3]), black where it is smaller.

    Of an odd difference half a pixel is floored, as transformers does it, or rounded to the even
    number, as torchvision does it.
    """
    height, width = size
    missing = (max(height - image.shape[0], 0), max(width - image.shape[1], 0))
    if any(missing):
        pads = [(gap // 2, gap - gap // 2) for gap in missing]
        image = np.pad(image, [*pads, (0, 0)])
    gaps = (image.shape[0] - height, image.shape[1] - width)
    top, left = (round(gap / 2) if offset == "rounded" else gap // 2 for gap in gaps)
    return image[top : top + height, left : left + width]


def to_tensor(image: np.ndarray, preprocessing: Preprocessing) -> torch.Tensor:
    """Rescaled and normalised, float32 [3, H, W]; no resizing. `image` is uint8 [H, W, 3]."""
    pixels = torch.from_numpy(np.array(image, copy=True)).permute(2, 0, 1).float()
    mean = torch.tensor(preprocessing.mean).view(3, 1, 1)
    std = torch.tensor(preprocessing.std).view(3, 1, 1)
    return (pixels * preprocessing.rescale_factor - mean) / std


def whole_image(
    image: np.ndarray, preprocessing: Preprocessing, offset: AestheticCrop = "floored"
) -> torch.Tensor:
    """A picture (uint8 [H, W, 3]) as the model's own processor gives it, float32 [3, h, w].

    `offset`: see `centre_crop`.
    """
    resized = resize(image, preprocessing.target_size(*image.shape[:2]), preprocessing.resample)
    if preprocessing.crop_size is not None:
        resized = centre_crop(resized, preprocessing.crop_size, offset)
    return to_tensor(resized, preprocessing)


def square_image(
    image: np.ndarray, preprocessing: Preprocessing, resizing: ClipResizing = "antialiased"
) -> torch.Tensor:
    """A square (uint8 [S, S, 3]) resized bicubically to the input size, float32 [3, h, w].

    Raises:
        ValueError: the preprocessing has no fixed input size.
    """
    size = preprocessing.input_size
    if size is None:
        raise ValueError("the preprocessing has no fixed input size: set size or crop_size")
    if resizing == "opencv_cubic":
        return to_tensor(opencv_cubic(image, size), preprocessing)
    return to_tensor(resize(image, size, Image.Resampling.BICUBIC), preprocessing)
