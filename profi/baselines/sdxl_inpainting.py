"""SDXL Inpainting by diffusers' own pipeline: the row of Table 1.

`StableInpainting` runs the same weights with this project's own sampler, with or without the
paper's modules. It starts from pure noise; this pipeline starts from the noised image if `strength`
is below 1.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from diffusers import StableDiffusionXLInpaintPipeline
from torch import Tensor

from profi.baselines.baseline import Baseline, Inputs, ddim_scheduler, paint_with
from profi.inpainter import Progress
from profi.models.backbone import OnBackbone, backbone_identity
from profi.settings.method import Sampling
from profi.types import UserError


@dataclass(frozen=True)
class SDXLInpainting(OnBackbone, Baseline):
    """A `Row`: an SDXL inpainting model.

    `strength` s in (0, 1]: the last int(s n) of n steps are run. They start from the noised image,
    or with s = 1 from pure noise. With 50 steps and s = 0.9999, 49 steps are run. Raises UserError
    for a model with one text encoder, or if no step is left.
    """

    sampling: Sampling = field(default_factory=Sampling)
    strength: float = 0.9999
    _pipeline: StableDiffusionXLInpaintPipeline = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.backbone.text.towers) != 2:
            raise UserError("the model has one text encoder and SDXL has two; use an SDXL model")
        if not 0.0 < self.strength <= 1.0:
            raise UserError(f"strength={self.strength}: must be above 0 and at most 1")
        steps = self.sampling.num_inference_steps
        if int(steps * self.strength) < 1:
            raise UserError(
                f"strength={self.strength} leaves none of {steps} steps; "
                "use more steps (sampling.num_inference_steps) or strength 1"
            )
        pipeline = StableDiffusionXLInpaintPipeline(
            vae=self.backbone.vae,
            text_encoder=None,
            text_encoder_2=None,
            tokenizer=None,
            tokenizer_2=None,
            unet=self.backbone.unet,
            scheduler=ddim_scheduler(self.backbone.schedule),
            add_watermarker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        object.__setattr__(self, "_pipeline", pipeline)

    @property
    def identity(self) -> dict[str, Any]:
        """See `Row`."""
        return {
            **backbone_identity(self.backbone),
            "sdxl_inpainting": {"strength": self.strength},
            "sampling": asdict(self.sampling),
        }

    def paint(self, inputs: Inputs, progress: Progress) -> Tensor:
        """See `Baseline`."""
        return paint_with(
            self._pipeline,
            self.backbone,
            self.sampling,
            inputs,
            progress,
            strength=self.strength,
        )
