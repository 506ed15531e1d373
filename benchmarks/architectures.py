"""The architectures of Stable Diffusion 1.5, 2 and XL, with random weights or with none at all.

Sizes are those of the published configs (`unet/`, `vae/`, `text_encoder/`, `text_encoder_2/`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from profi.models.backbone import Backbone
from profi.models.schedule import Schedule
from profi.models.text import Conditioning, PromptEncoder, TextTower, size_ids
from profi.models.unet_role import INPAINTING, UNetRole

TEXT_TOKENS = 77
VOCABULARY = 49_408
LATENT_FACTOR = 8
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "timestep_spacing": "trailing",
    "set_alpha_to_one": True,
    "clip_sample": False,
    "prediction_type": "epsilon",
}
T = 999  # of a step that is counted or timed by itself


@dataclass(frozen=True)
class Tower:
    """A CLIP text encoder's size; `projection` is its pooled embedding's, 0 for none."""

    width: int
    layers: int
    heads: int
    projection: int = 0


@dataclass(frozen=True)
class Architecture:
    """What tells the models apart: arguments of diffusers' UNet, the text encoders, the side."""

    pixels: int
    towers: tuple[Tower, ...]
    unet: Mapping[str, Any] = field(default_factory=dict)


VIT_L = Tower(768, 12, 12)
SD15 = Architecture(512, (VIT_L,), {"cross_attention_dim": 768, "attention_head_dim": 8})
SD2 = Architecture(
    512,
    (Tower(1024, 23, 16),),
    {
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
)
SDXL = Architecture(
    1024,
    (VIT_L, Tower(1280, 32, 20, projection=1280)),
    {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
)


@contextmanager
def _made_in(device: str, dtype: torch.dtype) -> Iterator[None]:
    """New parameters are there and of that type (fake ones cannot be converted later on)."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(usual)


def make_unet(
    of: Architecture, device: str, dtype: torch.dtype = torch.float32, **changes: Any
) -> UNet2DConditionModel:
    """Its inpainting UNet or, with other arguments, one that differs from it."""
    arguments = {"in_channels": 9, "sample_size": of.pixels // LATENT_FACTOR, **of.unet, **changes}
    with _made_in(device, dtype):
        model = UNet2DConditionModel(**arguments)
    return model.eval().requires_grad_(False)


def make_controlnet(
    of: Architecture, device: str, dtype: torch.dtype = torch.float32
) -> ControlNetModel:
    """The ControlNet of its text-to-image UNet."""
    with _made_in(device, dtype):
        # (it has no blocks of the way up)
        arguments = {name: value for name, value in of.unet.items() if name != "up_block_types"}
        model = ControlNetModel(**arguments)
    return model.eval().requires_grad_(False)


def make_vae(device: str, dtype: torch.dtype = torch.float32) -> AutoencoderKL:
    """The VAE of 83.7 M parameters, which all three have."""
    with _made_in(device, dtype):
        model = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            sample_size=512,
        )
    return model.eval().requires_grad_(False)


def make_tokenizer() -> CLIPTokenizer:
    """One token per letter: its prompts are longer than CLIP's, the UNet's work is the same."""
    letters = [*"abcdefghijklmnopqrstuvwxyz", ","]
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocab = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=TEXT_TOKENS)


def make_text(of: Architecture, device: str) -> PromptEncoder:
    """Its text encoders, in float32, as `load_backbone` has them."""

    def tower(size: Tower) -> TextTower:
        words = make_tokenizer()
        config = CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=size.width,
            intermediate_size=4 * size.width,
            num_attention_heads=size.heads,
            num_hidden_layers=size.layers,
            max_position_embeddings=TEXT_TOKENS,
            projection_dim=size.projection or size.width,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
        )
        with torch.device(device):
            encoder = (CLIPTextModelWithProjection if size.projection else CLIPTextModel)(config)
        return TextTower(encoder, words)

    return PromptEncoder(*map(tower, of.towers))


def make_backbone(
    of: Architecture,
    device: str,
    dtype: torch.dtype,
    channels_last: bool = True,
    vae_dtype: torch.dtype = torch.float32,
    role: UNetRole = INPAINTING,
    **unet: Any,
) -> Backbone:
    """All parts, random weights; `dtype` and the arguments `unet` are the UNet's."""
    torch.manual_seed(0)
    model = make_unet(of, device, dtype, **unet)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    vae, text = make_vae(device, vae_dtype), make_text(of, device)
    return Backbone.from_parts(model, vae, text, Schedule.from_config(SCHEDULER), role=role)


def some_text(backbone: Backbone, batch: int, pixels: int) -> Conditioning:
    """Zeros of the shapes that the UNet is given for `batch` prompts."""
    unet, device = backbone.unet, backbone.device
    width = unet.config.cross_attention_dim
    context = torch.zeros(batch, backbone.text.token_limit, width, device=device, dtype=unet.dtype)
    if backbone.text.second is None:
        return Conditioning(context)
    pooled = int(backbone.text.second.encoder.config.projection_dim)
    sizes: Tensor = torch.tensor([size_ids(pixels, pixels)] * batch, dtype=torch.float32)
    added = {"text_embeds": torch.zeros(batch, pooled, device=device), "time_ids": sizes.to(device)}
    return Conditioning(context, added)
