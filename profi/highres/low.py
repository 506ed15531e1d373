"""The low picture of appendix E, painted by an inpainting model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from profi.fitting import bytes_of, contents, fit, unfit
from profi.inpainter import blended
from profi.method.inpainting import StableInpainting
from profi.method.sampling import StepState
from profi.settings.evaluation import Evaluation
from profi.settings.highres import Low


@dataclass(frozen=True)
class LowPainter:
    """Paints a picture at a long side (a `PaintLow`).

    `after_step` is called with the number of steps done; an exception ends the painting.
    """

    inpainter: StableInpainting
    prompt: str
    seed: int
    pad_multiple: int
    low: Low
    evaluation: Evaluation
    after_step: Callable[[int], object] = lambda step: None

    def __call__(self, image: Tensor, mask: Tensor, long_side: int) -> Tensor:
        """The painted picture [3, h, w] in [0, 1] (bytes / 255), without padding."""
        fitted = fit(image, mask, long_side, self.pad_multiple, self.evaluation)
        images, masks = fitted.image[None], fitted.mask[None]

        def report(state: StepState[object], x_prev: Tensor) -> None:
            self.after_step(state.step_index + 1)

        painted = self.inpainter(
            images,
            masks,
            [self.prompt],
            [self.seed],
            contents=contents([fitted], self.evaluation.dilation),
            after_step=report,
        )
        if self.low == "blended":
            painted = blended(painted, images, masks)
        pixels: Tensor = bytes_of(unfit(painted[0], fitted), self.evaluation.bytes) / 255.0
        return pixels.to(torch.float32)
