"""Calling diffusers' own inpainting pipelines as `Inpainter` states it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from profi.baselines.baseline import Inputs
from profi.inpainter import Progress
from profi.models.backbone import Backbone, both_texts
from profi.models.schedule import Schedule
from profi.settings.method import Sampling


def ddim_scheduler(schedule: Schedule) -> DDIMScheduler:
    """diffusers' deterministic DDIM with the model's schedule and this project's timesteps."""
    return DDIMScheduler(
        num_train_timesteps=schedule.num_train_timesteps,
        trained_betas=schedule.betas.tolist(),
        prediction_type=schedule.prediction_type,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
        clip_sample=False,
    )


def text_embeddings(backbone: Backbone, sampling: Sampling, inputs: Inputs) -> dict[str, Tensor]:
    """A pipeline's keyword arguments of both branches' texts.

    So a prompt that does not fit is refused, and not cut off as the pipelines do.
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
    """Pictures as a pipeline gives them (see `Baseline`); `more` goes to it as it is.

    Every sample has a CPU generator of its own, of which the pipeline takes all that is random: the
    start noise (in its own dtype, whatever `Sampling.noise` says of precision) and, as these
    pipelines do, a sample of the VAE's posterior.
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
