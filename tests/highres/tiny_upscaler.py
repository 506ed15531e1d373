"""A tiny random x4 upscaler of the real structure, as diffusers' own pipeline."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    StableDiffusionUpscalePipeline,
    UNet2DConditionModel,
)
from tiny_pipelines import make_tokenizer, text_config
from transformers import CLIPTextModel

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.0001, "beta_end": 0.02}
SUFFIX = "hi res"
TOKENS = 80  # one per letter: the upscaler's own suffix fits in


def make_upscaler(**more: Any) -> StableDiffusionUpscalePipeline:
    torch.manual_seed(1)
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=0.08333,
    )
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=7,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16, 16),
        only_cross_attention=(True, True, False),
        layers_per_block=1,
        norm_num_groups=8,
        num_class_embeds=1000,
        cross_attention_dim=16,
        attention_head_dim=4,
        use_linear_projection=True,
    )
    tokenizer, config = make_tokenizer("!"), text_config(16, "gelu")
    tokenizer.model_max_length = config.max_position_embeddings = TOKENS
    return StableDiffusionUpscalePipeline(
        vae=vae,
        text_encoder=CLIPTextModel(config),
        tokenizer=tokenizer,
        unet=unet,
        low_res_scheduler=DDPMScheduler(**BETAS),
        scheduler=DDIMScheduler(
            **BETAS,
            prediction_type="v_prediction",
            clip_sample=False,
            set_alpha_to_one=True,
            timestep_spacing="trailing",
        ),
        max_noise_level=350,
        **more,
    )
