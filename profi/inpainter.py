"""The `Inpainter` protocol, the checks of its inputs, and the start noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from profi.fitting import Extent
from profi.settings.evaluation import Noise
from profi.settings.method import Output
from profi.types import MAX_SEED, UserError

# Called after every sampling step with (steps done, all steps).
Progress = Callable[[int, int], None]


class Inpainter(Protocol):
    """Paints a batch; sample i depends only on its own image, mask, prompt and seed."""

    def __call__(
        self,
        images: Tensor,
        masks: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        progress: Progress | None = None,
        contents: Sequence[Extent] | None = None,
    ) -> Tensor:
        """Paint.

        Args:
            images: [B, 3, H, W] float, RGB in [0, 1].
            masks: [B, H, W] bool, True = inpaint.
            prompts: B texts.
            seeds: B seeds of the start noise, each in [0, 2^32).
            progress: called after every step.
            contents: B (height, width) of the images without their padding (right and bottom). No
                mask grows into the padding. None: there is no padding, or masks may grow into it.

        Returns:
            [B, 3, H, W] float32 in [0, 1], on the CPU.

        Raises:
            UserError: for invalid inputs, an empty mask or a prompt that is too long.
        """
        ...


class Row(Inpainter, Protocol):
    """An inpainter as a row of a table, with the properties that a run uses and records."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        ...

    @property
    def pixel_multiple(self) -> int:
        """The images' sides must be multiples of this."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything in it that changes a pixel, as JSON values; weights are given by hashes.

        It is a part of the run's id, together with settings such as the UNet's dtype. The report
        shows the text `identity["backbone"]["weights"]`.
        """
        ...


def check_inputs(
    images: Tensor, masks: Tensor, prompts: Sequence[str], seeds: Sequence[int], multiple: int
) -> None:
    """Raise UserError for inputs that `Inpainter` does not allow; `multiple` divides H and W."""
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
        raise UserError(f"images: shape {tuple(images.shape)} is not [B, 3, H, W]; give RGB images")
    if not images.is_floating_point():
        raise UserError(f"images: dtype {images.dtype} is not a float one; divide bytes by 255")
    # `not (...)` also catches NaN.
    if not bool(((images >= 0.0) & (images <= 1.0)).all()):
        raise UserError("images: values outside [0, 1] (or NaN); scale them to [0, 1]")
    B, _, H, W = images.shape
    if masks.dtype != torch.bool:
        raise UserError(f"masks: dtype {masks.dtype} is not bool; threshold them, True = inpaint")
    if tuple(masks.shape) != (B, H, W):
        raise UserError(
            f"masks: shape {tuple(masks.shape)} does not fit the images' {(B, H, W)}; "
            "resize the masks to their images"
        )
    if len(prompts) != B or len(seeds) != B:
        raise UserError(
            f"{B} images, but {len(prompts)} prompts and {len(seeds)} seeds; give one per image"
        )
    if H % multiple or W % multiple:
        raise UserError(
            f"images: {H}x{W} is not a multiple of {multiple} that this model needs; pad them"
        )
    for i, mask in enumerate(masks):
        if not mask.any():
            raise UserError(f"mask {i} is empty: nothing to paint; mark the region with True")
    for i, seed in enumerate(seeds):
        if not 0 <= seed <= MAX_SEED:
            raise UserError(f"seed {i} is {seed}; choose one from 0 to 2^32 - 1")


class NotFiniteError(UserError, ValueError):
    """The model gave NaN or infinity. One sample can cause it, so a run sets that sample aside."""


def check_finite(painted: Tensor) -> Tensor:
    """The painted images [B, 3, H, W]; NotFiniteError if a value is NaN or infinite."""
    if not bool(torch.isfinite(painted).all()):
        raise NotFiniteError(
            "the painted image is not finite: the model gives NaN; paint with dtype=float32 and "
            "vae_dtype=float32, or replace its damaged weights"
        )
    return painted


def blended(painted: Tensor, images: Tensor, masks: Tensor, output: Output) -> Tensor:
    """The painted [B, 3, H, W] as `output` says: blended with the given images, or as they are.

    `blended`: the given one outside the mask, I_c = I there (sec. 3). `softly_blended`: the two
    mixed by the mask after a Gaussian of 21 taps, sigma 3.5, with borders that reflect and do not
    repeat the edge (BrushBench's evaluation; OpenCV's GaussianBlur with a size of 21).
    """
    if output == "unblended":
        return painted
    if output == "blended":
        return torch.where(masks[:, None], painted, images.to(painted.dtype))
    soft = [gaussian_filter(one.float().numpy(), 3.5, radius=10, mode="mirror") for one in masks]
    weights = torch.from_numpy(np.stack(soft))[:, None].to(painted.dtype).clamp(0.0, 1.0)
    return weights * painted + (1 - weights) * images.to(painted.dtype)


def start_noise(seeds: Sequence[int], shape: tuple[int, ...], rule: Noise = "picture") -> Tensor:
    """x_T [B, *shape] ~ N(0, 1), float32 on the CPU: sample i depends only on seeds[i]."""
    return noise_of(seeds, rule)(shape)


def noise_of(
    seeds: Sequence[int], rule: Noise = "picture", device: torch.device | str = "cpu"
) -> Callable[[tuple[int, ...]], Tensor]:
    """A function that draws N(0, 1) [B, *shape], float32, with one CPU generator per seed.

    The first draw is `start_noise`; further draws continue the generators. With the rule `run`
    every draw is rounded to half precision (`precise`).
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw(shape: tuple[int, ...]) -> Tensor:
        noise = [torch.randn(shape, generator=generator) for generator in generators]
        return precise(torch.stack(noise), rule).to(device)

    return draw


def precise(noise: Tensor, rule: Noise) -> Tensor:
    """Noise, float32, rounded as the rule says: to half precision for `run`, as released."""
    return noise.half().float() if rule == "run" else noise
