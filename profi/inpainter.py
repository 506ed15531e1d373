"""What an inpainter is, and what every one of them may ask of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from profi.fitting import Extent
from profi.settings.evaluation import Noise
from profi.types import UserError

# Called after every sampling step with (steps done, steps in all).
Progress = Callable[[int, int], None]


class Inpainter(Protocol):
    """Paints a batch; sample i depends on nothing but its own image, mask, prompt and seed."""

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
            seeds: B seeds of the start noise, each in [0, 2^63).
            progress: told after every step.
            contents: B (height, width) of the images without their padding (right and below), into
                which no mask grows; None: they have none, or masks may.

        Returns:
            [B, 3, H, W] float32 in [0, 1], on the CPU.

        Raises:
            UserError: for inputs that break the above, an empty mask or a prompt that does not fit.
        """
        ...


class Row(Inpainter, Protocol):
    """An inpainter as a row of a table: what a run of it needs to know, and records of it."""

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
        """Everything of it that changes a pixel, as JSON would hold it, the weights by hashes.

        A part of the run's id, with what `profi.harness` takes from the settings (the UNet's dtype
        among them). `identity["backbone"]["weights"]` is a text that the report
        shows.
        """
        ...


def check_inputs(
    images: Tensor, masks: Tensor, prompts: Sequence[str], seeds: Sequence[int], multiple: int
) -> None:
    """Raise UserError unless the inputs are what `Inpainter` states, sized in `multiple`s."""
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
        if not 0 <= seed < 2**63:
            raise UserError(f"seed {i} is {seed}; choose one from 0 to 2^63 - 1")


def blended(painted: Tensor, images: Tensor, masks: Tensor) -> Tensor:
    """The painted image inside the mask and the given one outside: I_c = I there (sec. 3)."""
    return torch.where(masks[:, None], painted, images.to(painted.dtype))


def start_noise(seeds: Sequence[int], shape: tuple[int, ...], rule: Noise = "picture") -> Tensor:
    """x_T [B, *shape] ~ N(0, 1), float32 on the CPU: sample i depends on seeds[i] alone."""
    return noise_of(seeds, rule)(shape)


def noise_of(
    seeds: Sequence[int], rule: Noise = "picture", device: torch.device | str = "cpu"
) -> Callable[[tuple[int, ...]], Tensor]:
    """Draws N(0, 1) [B, *shape], float32: sample i's from a CPU generator of seeds[i] alone.

    The first draw is `start_noise`; every further one goes on from there. With the rule `run` each
    is rounded to half precision (`precise`).
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw(shape: tuple[int, ...]) -> Tensor:
        noise = [torch.randn(shape, generator=generator) for generator in generators]
        return precise(torch.stack(noise), rule).to(device)

    return draw


def precise(noise: Tensor, rule: Noise) -> Tensor:
    """Drawn noise, float32, in the precision of a rule: half for `run`, as the released code's."""
    return noise.half().float() if rule == "run" else noise
