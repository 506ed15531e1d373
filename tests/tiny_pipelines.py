"""Tiny random models of the structures of SD 1, SD 2 and SDXL, as diffusers' own pipelines."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

TOKEN_LIMIT = 26
CROSS, PLAIN = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")
BETAS = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
}


def make_tokenizer(pad_token: str) -> CLIPTokenizer:
    """One token per letter; as in CLIP, "!" has number 0 and "!!" is a word."""
    letters = [*"!abcdefghijklmnopqrstuvwxyz,"]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "!!</w>"]
    vocab = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    merges = [("!", "!</w>")]
    return CLIPTokenizer(
        vocab=vocab, merges=merges, model_max_length=TOKEN_LIMIT, pad_token=pad_token
    )


def text_config(width: int, act: str, **more: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=59,
        hidden_size=width,
        intermediate_size=2 * width,
        num_attention_heads=2,
        num_hidden_layers=3,
        max_position_embeddings=TOKEN_LIMIT,
        hidden_act=act,
        bos_token_id=57,
        eos_token_id=58,
        **more,
    )


def make_vae(**more: Any) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        sample_size=64,
        **more,
    )


def make_unet(attends: tuple[bool, ...], **more: Any) -> UNet2DConditionModel:
    """`attends`: whether each level has attention, from the latents' size downwards."""
    unet = UNet2DConditionModel(
        **{
            "sample_size": 16,
            "in_channels": 9,
            "block_out_channels": (8, *(16,) * (len(attends) - 1)),
            "layers_per_block": 1,
            "norm_num_groups": 8,
            "down_block_types": tuple((CROSS if a else PLAIN)[0] for a in attends),
            "up_block_types": tuple((CROSS if a else PLAIN)[1] for a in reversed(attends)),
            **more,
        }
    )
    # Random projections give nearly uniform attention; sharper ones give the modules an effect.
    for name, parameter in unet.named_parameters():
        if "attn2.to_q" in name or "attn2.to_k" in name:
            parameter.data *= 4.0
    return unet


def make_pipeline(structure: str, **more: Any) -> Any:
    """The inpainting pipeline of structure sd1, sd2 or sdxl; `more` are its own settings."""
    torch.manual_seed(0)
    pad = "<|endoftext|>" if structure != "sd2" else "!"
    parts: dict[str, Any] = {"tokenizer": make_tokenizer(pad), "vae": make_vae()}
    if structure == "sdxl":
        second = text_config(20, "gelu", projection_dim=12)
        return StableDiffusionXLInpaintPipeline(
            **parts,
            text_encoder=CLIPTextModel(text_config(16, "quick_gelu")),
            text_encoder_2=CLIPTextModelWithProjection(second),
            tokenizer_2=make_tokenizer("!"),
            unet=make_unet(
                (False, True, True),
                cross_attention_dim=36,
                attention_head_dim=(1, 2, 4),
                transformer_layers_per_block=(1, 1, 2),
                use_linear_projection=True,
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=60,
            ),
            scheduler=EulerDiscreteScheduler(**BETAS),
            add_watermarker=False,
            **more,
        )
    levels = (True, True, True, False)
    if structure == "sd1":
        encoder = text_config(16, "quick_gelu")
        unet = make_unet(levels, cross_attention_dim=16, attention_head_dim=4)
        scheduler = PNDMScheduler(**BETAS, skip_prk_steps=True)
    else:
        encoder = text_config(16, "gelu", projection_dim=12)
        unet = make_unet(
            levels,
            cross_attention_dim=16,
            attention_head_dim=(1, 2, 4, 4),
            use_linear_projection=True,
        )
        scheduler = DDIMScheduler(**BETAS, prediction_type="v_prediction", clip_sample=False)
    return StableDiffusionInpaintPipeline(
        **parts,
        text_encoder=CLIPTextModel(encoder),
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **more,
    )
