"""The embedded models' architectures: small models of the real library classes."""

from __future__ import annotations

from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrResNetConfig,
)

from profi.mini.world import World

# Stable Diffusion's noise schedule (PROTOCOL: scaled linear, 1000 steps).
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "timestep_spacing": "trailing",
}

# The x4 upscaler's (PROTOCOL: scaled linear, betas 1e-4 to 0.02).
UPSCALER_SCHEDULER = SCHEDULER | {
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "prediction_type": "v_prediction",
}
NOISE_LEVELS = 100  # of the low picture's noise augmentation, in steps of that schedule


def vae(world: World) -> AutoencoderKL:
    """A VAE that halves the image once per level after the first."""
    levels = len(world.vae_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=world.vae_channels,
        layers_per_block=1,
        latent_channels=world.latent_channels,
        norm_num_groups=2,  # with more, a group could have one channel and lose its mean
        sample_size=world.image_size,
        mid_block_add_attention=False,
    )


def unet(world: World, in_channels: int) -> UNet2DConditionModel:
    """A UNet of three levels with attention at down-factors 2 and 4, as the method needs."""
    return UNet2DConditionModel(
        sample_size=world.latent_size,
        in_channels=in_channels,
        out_channels=world.latent_channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=world.unet_channels,
        layers_per_block=world.unet_layers,
        norm_num_groups=16,
        cross_attention_dim=world.text_width,
        attention_head_dim=4,  # the number of heads, by diffusers' historical naming
        use_linear_projection=True,
    )


def upscaler_vae() -> AutoencoderKL:
    """The upscaler's VAE: four pixels per latent, four channels."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 48),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=512,
        mid_block_add_attention=False,
    )


def upscaler_unet(world: World) -> UNet2DConditionModel:
    """The upscaler's UNet: noisy latents and the low picture in, its noise level as a class.

    Attention is to the text alone except at the coarsest level, as in the x4 upscaler.
    """
    return UNet2DConditionModel(
        sample_size=world.image_size,
        in_channels=7,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 48, 64),
        only_cross_attention=(True, True, False),
        layers_per_block=1,
        norm_num_groups=16,
        num_class_embeds=NOISE_LEVELS,
        cross_attention_dim=world.text_width,
        attention_head_dim=4,
        use_linear_projection=True,
    )


def clip(world: World, vocabulary: int, sot: int, eot: int) -> CLIPModel:
    """A CLIP model; its text encoder conditions the UNets."""
    width, side = world.text_width, world.clip_image_size
    text = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=world.token_limit,
        bos_token_id=sot,
        eos_token_id=eot,
        pad_token_id=eot,
    )
    vision = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=side,
        patch_size=8,
    )
    return CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=width)
    )


def detector(world: World) -> RTDetrForObjectDetection:
    """A small RT-DETR with COCO's category names as labels; `coco_ids` are their COCO ids."""
    width = 64 if world.size == "cpu" else 96
    names = dict(enumerate(world.categories))
    backbone = RTDetrResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 64, 96, 128],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = RTDetrConfig(
        backbone_config=backbone,
        id2label=names,
        label2id={name: i for i, name in names.items()},
        encoder_hidden_dim=width,
        encoder_in_channels=[64, 96, 128],
        feat_strides=[8, 16, 32],
        encoder_ffn_dim=2 * width,
        encoder_attention_heads=4,
        d_model=width,
        decoder_in_channels=[width] * 3,
        decoder_ffn_dim=2 * width,
        decoder_attention_heads=4,
        decoder_layers=2,
        num_queries=20,
        num_denoising=20,
        hidden_expansion=0.5,
        with_box_refine=True,
    )
    config.coco_ids = list(world.category_ids.values())
    return RTDetrForObjectDetection(config)


def parameters(model: nn.Module) -> int:
    """The number of a model's parameters."""
    return sum(p.numel() for p in model.parameters())
