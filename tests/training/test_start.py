"""Which models a training may start from, and what tells them apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusers import UNet2DConditionModel

from profi.mini.world import WORLDS
from profi.training.examples import TextToImage, start_fingerprint
from profi.types import UserError

SHIPPED = WORLDS["cpu"].folder
PARTS = SHIPPED / "inpaint"
CONFIG = "scheduler/scheduler_config.json"


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """The shipped text-to-image model, to change."""
    return shutil.copytree(SHIPPED / "t2i", tmp_path / "start")


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
        ({"beta_schedule": "squaredcos_cap_v2"}, "squaredcos_cap_v2"),
        ({"prediction_type": "sample"}, "epsilon or v_prediction"),
        ({"prediction_type": "flow_prediction"}, "flow_prediction"),
    ],
)
def test_a_schedule_that_nothing_could_paint_with_is_refused(
    start: Path, changes: dict[str, Any], message: str
) -> None:
    edit(start / CONFIG, **changes)
    with pytest.raises(UserError, match=message):
        TextToImage.load(start, PARTS)


def unet(**changes: Any) -> UNet2DConditionModel:
    given: dict[str, Any] = {
        "in_channels": 8,
        "out_channels": 8,
        "block_out_channels": (32,),
        "down_block_types": ("CrossAttnDownBlock2D",),
        "up_block_types": ("CrossAttnUpBlock2D",),
        "layers_per_block": 1,
        "cross_attention_dim": 128,
    }
    return UNet2DConditionModel(**given | changes)


SDXL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 176,
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (SDXL, "two text encoders"),
        ({"in_channels": 9}, "9 input channels.*a text-to-image model"),
        ({"out_channels": 4}, "4 output channels"),
        ({"num_class_embeds": 5}, "num_class_embeds=5"),
        ({"cross_attention_dim": 64}, "text embeddings of 64 channels"),
    ],
)
def test_a_unet_of_another_kind_is_refused(
    start: Path, changes: dict[str, Any], message: str
) -> None:
    shutil.rmtree(start / "unet")
    unet(**changes).save_pretrained(start / "unet")
    with pytest.raises(UserError, match=message):
        TextToImage.load(start, PARTS)


def test_sides_are_multiples_that_every_level_halves(
    new_model: Callable[..., TextToImage],
) -> None:
    """Three levels on latents of a quarter: 16 pixels, as the inpainter of the result wants."""
    model = new_model()
    model.check_side(48)
    for side, near in ((40, "32 or 48"), (8, "16")):
        message = f"side={side}: must be a multiple of 16, such as {near}$"
        with pytest.raises(UserError, match=message):
            model.check_side(side)


def test_other_weights_or_another_schedule_are_another_start(start: Path, tmp_path: Path) -> None:
    first = start_fingerprint(start, PARTS)
    assert first == start_fingerprint(SHIPPED / "t2i", PARTS)
    edit(start / CONFIG, _diffusers_version="9.9.9")
    assert start_fingerprint(start, PARTS) == first
    edit(start / CONFIG, beta_end=0.02)
    second = start_fingerprint(start, PARTS)
    shutil.rmtree(start / "unet")
    unet().save_pretrained(start / "unet")
    third = start_fingerprint(start, PARTS)
    parts = shutil.copytree(PARTS, tmp_path / "parts")
    weights = parts / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    fourth = start_fingerprint(start, parts)
    assert len({one["model"] for one in (first, second, third, fourth)}) == 4
