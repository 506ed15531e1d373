"""A tiny `ProFIPainterPipeline` and calls of it."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDIMScheduler

from profi import ProFIPainterPipeline
from profi.models.backbone import Backbone

# A divisor of 1000: diffusers' t_prev is t - 1000 // STEPS, not the next timestep.
STEPS = 2
# Of pixels in [0, 1]: weights that lie elsewhere in memory are added up in another order.
TOLERANCE = 1e-4


def pipeline_of(backbone: Backbone, **extra: Any) -> ProFIPainterPipeline:
    tower = backbone.text.first
    pipe = ProFIPainterPipeline(
        vae=backbone.vae,
        text_encoder=tower.encoder,
        tokenizer=tower.tokenizer,
        unet=backbone.unet,
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            timestep_spacing="trailing",
            prediction_type=backbone.schedule.prediction_type,
            steps_offset=1,
        ),
        **extra,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def painted(pipe: ProFIPainterPipeline, call: dict[str, Any], seed: int = 0, **more: Any) -> Any:
    return pipe(**{**call, "generator": generators(seed), **more}).images
