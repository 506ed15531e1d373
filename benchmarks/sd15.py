"""The Stable Diffusion 1.5 Inpainting architecture, with random weights or with none at all."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from profi.diffusion.schedule import Schedule
from profi.inpainters.backbone import Backbone
from profi.inpainters.text import PromptEncoder, TextTower

TEXT_TOKENS = 77
TEXT_WIDTH = 768
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


def unet(device: str, dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
    """The UNet of 859.5 M parameters; on "meta" it has no weights and costs nothing."""
    # Built in its dtype: parameters that are fake tensors cannot be converted.
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = UNet2DConditionModel(
                in_channels=9,
                sample_size=64,
                cross_attention_dim=TEXT_WIDTH,
                attention_head_dim=8,
            )
    finally:
        torch.set_default_dtype(usual)
    return model.eval().requires_grad_(False)


def vae(device: str) -> AutoencoderKL:
    """The VAE of 83.7 M parameters."""
    with torch.device(device):
        model = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            sample_size=512,
        )
    return model.eval().requires_grad_(False)


def tokenizer() -> CLIPTokenizer:
    """One token per letter: its prompts are longer than CLIP's, the UNet's work is the same."""
    letters = [*"abcdefghijklmnopqrstuvwxyz", ","]
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocab = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=TEXT_TOKENS)


def backbone(device: str, dtype: torch.dtype, channels_last: bool = True) -> Backbone:
    """All parts, random weights; the text encoder has ViT-L/14's shape but for its vocabulary."""
    torch.manual_seed(0)
    words = tokenizer()
    with torch.device(device):
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=TEXT_WIDTH,
                intermediate_size=4 * TEXT_WIDTH,
                num_attention_heads=12,
                num_hidden_layers=12,
                max_position_embeddings=TEXT_TOKENS,
                bos_token_id=words.bos_token_id,
                eos_token_id=words.eos_token_id,
            )
        )
    model = unet(device, dtype)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    text = PromptEncoder(TextTower(text_encoder, words))
    return Backbone.from_parts(model, vae(device), text, Schedule.from_config(SCHEDULER))
