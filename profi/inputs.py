"""Conversion of the caller's images and masks to the inpainters' tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from profi.data.pictures import check_pair, mask_of, open_picture, rgb_tensor, upright
from profi.fitting import Fitted, bytes_of, fit, fit_picture, unfit
from profi.metrics.functional import Box, bounding_box
from profi.settings.evaluation import Evaluation
from profi.types import MAX_SEED, UserError, check_text

ImageLike = Image.Image | np.ndarray | Tensor | str | Path
MaskLike = Image.Image | np.ndarray | Tensor | str | Path

IMAGE_FORMS = (
    "give a path, a PIL image, a numpy array [H, W, 3] or [H, W] (8 or 16 bits, or floats in "
    "[0, 1]) or a tensor [3, H, W]; several as a list"
)
MASK_FORMS = (
    "give a path, a PIL image, or a numpy array or tensor [H, W] (bool, 8 bits or floats in "
    "[0, 1]); several as a list"
)


def image_tensor(image: ImageLike, name: str = "image") -> Tensor:
    """An image as RGB [3, H, W], float32 in [0, 1], on the CPU.

    A text is the path of a file. A PIL image may have any mode but F (upright, transparency on
    white, in sRGB: `rgb_tensor`). A uint8 array is treated as a PIL image of its shape. A tensor
    has its channels first: [3, H, W] or [1, H, W]. Anything else raises UserError, which mentions
    `name`.
    """
    if isinstance(image, str | Path):
        return rgb_tensor(_opened(image, name), name)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        image = _pil_of(image, name)
    if isinstance(image, Image.Image):
        return rgb_tensor(_upright(image, name), name)
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

    Pixels brighter than middle grey are True; transparent pixels are put on black. An integer array
    or tensor that has only the values 0 and 1 is taken as bool. Anything that is not a mask raises
    UserError, which mentions `name`.
    """
    if isinstance(mask, str | Path):
        return mask_of(_opened(mask, name), name)
    if isinstance(mask, np.ndarray) and mask.ndim == 3:
        if mask.shape[-1] == 1:
            mask = mask[..., 0]
        elif mask.dtype == np.uint8:
            mask = _pil_of(mask, name)
    if isinstance(mask, Image.Image):
        return mask_of(_upright(mask, name), name)
    if isinstance(mask, np.ndarray) and mask.dtype == np.uint16 and bool((mask <= 1).all()):
        mask = mask.astype(bool)
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
    """One image or a batch in diffusers' forms ([B, ...] or a list), as a list of images."""
    if isinstance(value, list | tuple):
        return [item for one in value for item in several(one)]
    if isinstance(value, np.ndarray | Tensor) and value.ndim == 4:
        return list(value)
    return [value]


def several_masks(value: Any) -> list[Any]:
    """The same as `several` for masks; a batch may also be [B, H, W]."""
    items = []
    for item in several(value):
        is_batch = isinstance(item, np.ndarray | Tensor) and item.ndim == 3
        if is_batch and isinstance(item, np.ndarray):
            # Not a batch: [H, W, 1], or a colour image.
            is_batch = item.shape[-1] != 1 and (item.dtype != np.uint8 or item.shape[-1] > 4)
        items += list(item) if is_batch else [item]
    return items


def pil_image(pixels: Tensor) -> Image.Image:
    """A PIL image (RGB) from uint8 pixels [3, H, W]."""
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))


def _opened(path: str | Path, name: str) -> Image.Image:
    try:
        return open_picture(Path(path))
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def _upright(image: Image.Image, name: str) -> Image.Image:
    """`upright` of an image that may not be read from its file yet."""
    try:
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{name} cannot be read ({reason}); give an intact picture") from error
    return upright(image)


def _pil_of(pixels: np.ndarray, name: str) -> Image.Image:
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in (3, 4))
    if not fits or pixels.size == 0:
        raise UserError(f"{name} has the shape {pixels.shape}; {IMAGE_FORMS}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def _tensor_of(values: np.ndarray, name: str, forms: str) -> Tensor:
    """A tensor from an array of numbers; 16-bit values become floats in [0, 1]."""
    if values.dtype == np.uint16:
        return torch.from_numpy(values.astype(np.float32) / 65535.0)
    if values.dtype.kind not in "buif":
        raise UserError(f"{name} is an array of {values.dtype}; {forms}")
    # `astype` copies: the array may be read-only or have negative strides.
    return torch.from_numpy(values.astype(np.float32 if values.dtype.kind in "bf" else np.int64))


def _unit(values: Tensor, name: str) -> Tensor:
    """Float32 in [0, 1] on the CPU: integers are divided by 255, floats must be in [0, 1]."""
    values = values.detach().to("cpu")
    if values.dtype == torch.bool:
        values = values.float()
    unit = values.float() if values.is_floating_point() else values.float() / 255.0
    # `not (...)` also catches NaN.
    if not bool(((unit >= 0.0) & (unit <= 1.0)).all()):
        limit = "[0, 1]" if values.is_floating_point() else "[0, 255]"
        raise UserError(f"{name} has values outside {limit}; scale it to that range")
    return unit


@dataclass(frozen=True)
class Job:
    """One picture to paint.

    `image` [3, H, W] in [0, 1] and `mask` [H, W] bool have the given size; `fitted` has their part
    inside of `box` at the model's size, by the rules of `evaluation`. `feather`: see `blend`.
    """

    image: Tensor
    mask: Tensor
    prompt: str
    seed: int
    evaluation: Evaluation
    fitted: Fitted
    box: Box
    feather: int = 0

    def finished(self, painted: Tensor, blended: bool) -> Image.Image:
        """The picture (RGB) in the given image's size, from the painted [3, h, w] with padding.

        The painted pixels are first rounded to bytes and then resized, so at the painted size the
        picture equals what a run stores. Outside of the box it has the given pixels.
        """
        pixels = bytes_of(unfit(painted, self.fitted), self.evaluation.bytes)
        part = (slice(self.box.top, self.box.bottom), slice(self.box.left, self.box.right))
        image = self.image[:, *part]
        pixels = in_given_size(pixels, image, self.evaluation)
        if blended:
            pixels = blend(pixels, image, self.mask[part], self.feather)
        whole = bytes_of(self.image, "rounded").clone()
        whole[:, *part] = pixels
        return pil_image(whole)


def in_given_size(painted: Tensor, image: Tensor, evaluation: Evaluation) -> Tensor:
    """Painted pixels [3, h, w] uint8 in the size of the given image [3, H, W]: uint8 [3, H, W]."""
    if painted.shape == image.shape:
        return painted
    size = (image.shape[1], image.shape[2])
    return bytes_of(fit_picture(painted / 255.0, size, evaluation.picture), "rounded")


def blend(painted: Tensor, image: Tensor, mask: Tensor, feather: int = 0) -> Tensor:
    """Painted pixels [3, H, W] uint8 inside the mask [H, W], those of the image outside: uint8.

    So I_c = I (sec. 3) holds outside the mask bit for bit. With `feather` the painted pixels come
    in over this many pixels from the mask's edge to its inside.
    """
    given = bytes_of(image, "rounded")
    if feather == 0:
        return torch.where(mask, painted, given)
    # The image's border is no edge of the mask.
    hole = np.pad(mask.numpy(), 1, mode="edge")
    depth = torch.from_numpy(distance_transform_edt(hole)[1:-1, 1:-1]).float()
    weight = torch.where(mask, (depth / (feather + 1)).clamp(max=1.0), 0.0)
    return (weight * painted + (1 - weight) * given).round().byte()


def jobs_of(
    image: Any,
    mask: Any,
    prompt: Any,
    seed: Any,
    long_side: int,
    multiple: int,
    evaluation: Evaluation,
    crop: int | None = None,
    feather: int = 0,
) -> tuple[list[Job], bool]:
    """The jobs of a call, and whether it is a call for a single picture (no argument is a list).

    Images are fitted to `long_side` and `multiple` by the rules of `evaluation` (see `fit`). With
    `crop` only the mask's bounding box with this margin is. `feather`: see `blend`.
    Raises UserError, with the argument's name, for lists of different lengths, an image or a mask
    of the wrong type (`image_tensor`, `mask_tensor`) or size, an empty mask, a seed out of range.
    """
    for name, pixels in (("crop", 0 if crop is None else crop), ("feather", feather)):
        if not isinstance(pixels, Integral) or pixels < 0:
            raise UserError(f"{name}={pixels!r}: give a whole number of pixels from 0")
    given = {"image": image, "mask": mask, "prompt": prompt, "seed": seed}
    rules = (long_side, multiple, evaluation, crop, feather)
    lengths = {name: len(v) for name, v in given.items() if isinstance(v, list | tuple | range)}
    if not lengths:
        return [_job(given, "", *rules)], True
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        shown = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise UserError(f"the lists differ in length ({shown}); give one of each per picture")
    jobs = []
    for i in range(next(iter(lengths.values()))):
        ith = {name: v[i] if name in lengths else v for name, v in given.items()}
        jobs.append(_job(ith, f" {i}", *rules))
    return jobs, False


def batches(jobs: Sequence[Job], batch_size: int) -> list[list[int]]:
    """Batches of job indices: one padded size per batch, at most `batch_size` jobs."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, job in enumerate(jobs):
        groups.setdefault(tuple(job.fitted.mask.shape), []).append(i)
    return [
        group[start : start + batch_size]
        for group in groups.values()
        for start in range(0, len(group), batch_size)
    ]


def _job(
    given: dict[str, Any],
    number: str,
    long_side: int,
    multiple: int,
    evaluation: Evaluation,
    crop: int | None,
    feather: int,
) -> Job:
    """One checked job; `number` (such as " 2") marks it in error messages."""
    prompt, seed = given["prompt"], given["seed"]
    if not isinstance(prompt, str):
        raise UserError(f"prompt{number} is of type {type(prompt).__name__}; give a text")
    check_text(f"prompt{number}", prompt)
    if not isinstance(seed, Integral) or not 0 <= int(seed) <= MAX_SEED:
        raise UserError(f"seed{number} is {seed!r}; choose a whole number from 0 to 2^32 - 1")
    image = image_tensor(given["image"], f"image{number}")
    mask = mask_tensor(given["mask"], f"mask{number}")
    check_pair(image, mask, f"image{number}", f"mask{number}")
    if not mask.any():
        raise UserError(f"mask{number} is empty: nothing to paint; make the part to paint white")
    height, width = mask.shape
    box = Box(0, 0, height, width)
    if crop is not None:
        inner = bounding_box(mask.numpy())
        box = Box(
            max(0, inner.top - crop),
            max(0, inner.left - crop),
            min(height, inner.bottom + crop),
            min(width, inner.right + crop),
        )
    part = (slice(box.top, box.bottom), slice(box.left, box.right))
    fitted = fit(image[:, *part], mask[part], long_side, multiple, evaluation)
    return Job(image, mask, prompt, int(seed), evaluation, fitted, box, feather)
