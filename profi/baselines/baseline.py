"""What the rows without the paper's modules have in common: they check, paint, and blend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from profi.fitting import Extent
from profi.inpainter import Progress, blended, check_inputs
from profi.settings.method import Sampling


class Inputs(NamedTuple):
    """A batch that `check_inputs` has seen; shapes and ranges as in `Inpainter`."""

    images: Tensor
    masks: Tensor
    prompts: Sequence[str]
    seeds: Sequence[int]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images in pixels."""
        return self.images.shape[2], self.images.shape[3]

    def signed(self, device: torch.device) -> Tensor:
        """The images in [-1, 1], float32, on a device."""
        return 2.0 * self.images.to(device, torch.float32) - 1.0


class Baseline(ABC):
    """An `Inpainter` that gives its checked inputs to `paint`."""

    sampling: Sampling

    @property
    @abstractmethod
    def pixel_multiple(self) -> int:
        """The images' sides must be multiples of this."""

    @abstractmethod
    def paint(self, inputs: Inputs, progress: Progress) -> Tensor:
        """Pictures [B, 3, H, W], float32 in [0, 1], as the model gives them."""

    def __call__(
        self,
        images: Tensor,
        masks: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        progress: Progress | None = None,
        contents: Sequence[Extent] | None = None,
    ) -> Tensor:
        """Paint a batch (see `Inpainter`); no mask grows here, so `contents` change nothing."""
        check_inputs(images, masks, prompts, seeds, self.pixel_multiple)
        inputs = Inputs(images, masks, prompts, seeds)
        painted = self.paint(inputs, progress or untold).cpu()
        if self.sampling.output == "blended":
            painted = blended(painted, images.to("cpu"), masks.to("cpu"))
        return painted


def untold(done: int, total: int) -> None:
    """Progress that nobody wants to know."""
