"""The common base of the baselines: check the inputs, paint, and blend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from profi.fitting import Extent
from profi.inpainter import Progress, blended, check_inputs
from profi.models.backbone import Backbone, both_texts
from profi.models.devices import exclusive
from profi.models.schedule import Schedule
from profi.settings.method import Sampling


class Inputs(NamedTuple):
    """A batch that passed `check_inputs`; shapes and ranges as in `Inpainter`."""

    images: Tensor
    masks: Tensor
    prompts: Sequence[str]
    seeds: Sequence[int]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images in pixels."""
        return self.images.shape[2], self.images.shape[3]

    def signed(self, device: torch.device) -> Tensor:
        """The images in [-1, 1], float32, on the given device."""
        return 2.0 * self.images.to(device, torch.float32) - 1.0


class Baseline(ABC):
    """An `Inpainter` that checks its inputs and passes them to `paint`."""

    sampling: Sampling

    @property
    @abstractmethod
    def pixel_multiple(self) -> int:
        """The images' sides must be multiples of this."""

    @abstractmethod
    def paint(self, inputs: Inputs, progress: Progress) -> Tensor:
        """The model's pictures [B, 3, H, W], float32 in [0, 1], before blending."""

    def __call__(
        self,
        images: Tensor,
        masks: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        progress: Progress | None = None,
        contents: Sequence[Extent] | None = None,
    ) -> Tensor:
        """Paint a batch (see `Inpainter`). Masks do not grow here, so `contents` has no effect."""
        check_inputs(images, masks, prompts, seeds, self.pixel_multiple)
        inputs = Inputs(images, masks, prompts, seeds)
        backbone = getattr(self, "backbone", None)
        # Another thread may be painting with the same UNet, by the paper's method.
        with nullcontext() if backbone is None else exclusive(backbone.unet):
            painted = self.paint(inputs, progress or no_progress).cpu()
        return blended(painted, images.to("cpu"), masks.to("cpu"), self.sampling.output)


def no_progress(done: int, total: int) -> None:
    """A progress function that does nothing."""


def ddim_scheduler(schedule: Schedule) -> DDIMScheduler:
    """diffusers' deterministic DDIM scheduler with the model's schedule and trailing timesteps."""
    return DDIMScheduler(
        num_train_timesteps=schedule.num_train_timesteps,
        trained_betas=schedule.betas.tolist(),
        prediction_type=schedule.prediction_type,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
        clip_sample=False,
    )


def text_embeddings(backbone: Backbone, sampling: Sampling, inputs: Inputs) -> dict[str, Tensor]:
    """A pipeline's keyword arguments for the texts of both branches.

    A prompt that is too long raises UserError; the pipelines would cut it off.
    """
    conditional, unconditional = both_texts(backbone, sampling, inputs.prompts, inputs.size)
    embeddings = {
        "prompt_embeds": conditional.context,
        "negative_prompt_embeds": unconditional.context,
    }
    if conditional.added:
        embeddings["pooled_prompt_embeds"] = conditional.added["text_embeds"]
        embeddings["negative_pooled_prompt_embeds"] = unconditional.added["text_embeds"]
    return embeddings


@torch.no_grad()
def paint_with(
    pipeline: Callable[..., Any],
    backbone: Backbone,
    sampling: Sampling,
    inputs: Inputs,
    progress: Progress,
    **more: Any,
) -> Tensor:
    """A pipeline's pictures (see `Baseline`); `more` are further arguments of the pipeline.

    Every sample has its own CPU generator. The pipeline draws from it the start noise (in the
    pipeline's own dtype, so `Evaluation.noise` does not set its precision) and a sample of the
    VAE's posterior.
    """
    height, width = inputs.size

    def report(pipe: Any, step: int, t: int, _: dict[str, Any]) -> dict[str, Any]:
        progress(step + 1, pipe.num_timesteps)
        return {}

    painted: Tensor = pipeline(
        image=inputs.images.float(),
        mask_image=inputs.masks[:, None].float(),
        height=height,
        width=width,
        num_inference_steps=sampling.num_inference_steps,
        guidance_scale=sampling.guidance_scale,
        generator=[torch.Generator().manual_seed(seed) for seed in inputs.seeds],
        callback_on_step_end=report,
        output_type="pt",
        **text_embeddings(backbone, sampling, inputs),
        **more,
    ).images
    return painted.float()
