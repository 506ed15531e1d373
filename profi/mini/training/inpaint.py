"""Stage `inpaint`: the text-to-image UNet goes on with a mask and the masked image as inputs.

As Stable Inpainting was made (paper, sec. 3.1): new input channels start at zero, captions are of
the whole scene. Half of the masks lie over an object in this short stage, so that the model learns
what a caption has to do with a hole; the stage `inpaint_random` follows.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

from profi.mini import models
from profi.mini.training.diffusion import Holes, fit
from profi.mini.training.loop import Plan
from profi.mini.world import World

PLANS = {
    "cpu": Plan(steps=4000, batch=64, rate=8e-4, warmup=200, decay=0.2, ema=0.9995),
    "gpu": Plan(steps=40000, batch=256, rate=4e-4, warmup=500, decay=0.3, ema=0.9995),
}
HOLES = Holes(over_objects=0.5)


def widen(source: UNet2DConditionModel, world: World) -> UNet2DConditionModel:
    """A UNet that computes what `source` does, whatever its new channels (mask, masked) hold."""
    more = 1 + world.latent_channels
    unet = models.unet(world, in_channels=world.latent_channels + more)
    state = source.state_dict()
    first = state["conv_in.weight"]
    state["conv_in.weight"] = torch.cat(
        [first, first.new_zeros(first.shape[0], more, *first.shape[2:])], 1
    )
    unet.load_state_dict(state)
    return unet


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train from the text-to-image UNet (or the checkpoint) and save to `work/models/inpaint`."""
    folder = work / "models" / "t2i" / "unet"
    plan = replace(PLANS[world.size], minutes=minutes)
    source = UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32)
    unet = widen(source, world)
    return fit(unet, world, device, work, "inpaint", plan, seed + 1000, holes=HOLES)
