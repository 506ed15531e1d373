"""What a picture of each row costs: the parts counted one by one against the rows themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.architectures import SD2, SD15, SDXL, Architecture, Tower, make_unet
from benchmarks.rows import ROWS, Models, picture_bytes, picture_flops
from profi.baselines.blended_latent_diffusion import BlendedLatentDiffusion
from profi.baselines.controlnet import ControlNetInpainting, LoadedControlNet
from profi.baselines.sdxl_inpainting import SDXLInpainting
from profi.baselines.smartbrush import SmartBrush
from profi.inpainter import Row
from profi.method.inpainting import StableInpainting
from profi.method.methods import compose
from profi.settings.method import RELEASED
from profi.training.smartbrush_loss import from_text_to_image

PIXELS = 128  # at 64 the mask would vanish at the smallest level of attention
SMALL = {"block_out_channels": (16, 32, 32), "norm_num_groups": 8, "layers_per_block": 1}
SMALL_SD = Architecture(
    PIXELS,
    (Tower(32, 2, 2),),
    {
        **SMALL,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3,
        "up_block_types": ("CrossAttnUpBlock2D",) * 3,
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
    },
)
SMALL_XL = Architecture(
    PIXELS,
    (Tower(32, 2, 2), Tower(16, 2, 2, projection=16)),
    {
        **SDXL.unet,
        **SMALL,
        "cross_attention_dim": 48,
        "attention_head_dim": (1, 2, 2),
        "transformer_layers_per_block": (1, 1, 2),
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 16 + 6 * 8,
    },
)


def stable(ablation: str) -> Callable[[Models], Row]:
    return lambda models: StableInpainting(models.backbone, compose(ablation, RELEASED))


def with_controlnet(models: Models) -> Row:
    assert models.controlnet is not None
    return ControlNetInpainting(models.backbone, LoadedControlNet(models.controlnet, {}))


INPAINTERS: dict[str, Callable[[Models], Row]] = {
    "bld": lambda models: BlendedLatentDiffusion(models.backbone, start="noise"),
    "sdxl_inpainting": lambda models: SDXLInpainting(models.backbone),
    "controlnet": with_controlnet,
    "smartbrush": lambda models: SmartBrush(models.backbone),
    "sd15": stable("base"),
    "sd15 profi": stable("profi"),
}


@pytest.mark.parametrize("name", INPAINTERS)
def test_the_parts_of_a_picture_add_up_to_what_its_row_does(name: str) -> None:
    """Of small networks, in 50 steps: neither the parts nor how often they come are guesses."""
    row = replace(ROWS[name], of=SMALL_XL if name == "sdxl_inpainting" else SMALL_SD)
    counted = picture_flops(row, Models.make(row, "meta", torch.float32, torch.float32), PIXELS)

    inpainter = INPAINTERS[name](Models.make(row, "cpu", torch.float32, torch.float32))
    masks = torch.zeros(1, PIXELS, PIXELS, dtype=torch.bool)
    masks[:, : PIXELS // 4] = True
    image = torch.rand(1, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0))
    # The counter knows fused attention on GPUs and none on CPUs.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        inpainter(image, masks, ["cat"], [1])
    assert counted == counter.get_total_flops()


@pytest.mark.parametrize(
    ("of", "changes", "parameters"),
    [
        (SD15, {}, 859_535_364),
        (SD15, {"in_channels": 4}, 859_520_964),
        (SD2, {}, 865_925_124),
        (SDXL, {"in_channels": 4}, 2_567_463_684),
    ],
)
def test_the_architectures_have_the_published_parameters(
    of: Architecture, changes: dict[str, int], parameters: int
) -> None:
    assert make_unet(of, "meta", **changes).num_parameters() == parameters


def test_smartbrush_is_counted_as_its_training_makes_it() -> None:
    row = ROWS["smartbrush"]
    made = from_text_to_image(make_unet(SMALL_SD, "cpu", in_channels=4), coarsest=4)
    assert {name: made.config[name] for name in row.unet} == row.unet


def test_memory_grows_with_the_batch_and_weights_do_not() -> None:
    row = replace(ROWS["sd15 profi"], of=SMALL_SD)
    one, weights = picture_bytes(row, 1, torch.float16)
    four, same = picture_bytes(row, 4, torch.float16)
    models = Models.make(row, "cpu", torch.float16, torch.float16)
    assert weights == same == models.weights
    assert 3 * one < four <= 4 * one
