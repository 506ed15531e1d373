"""Stage `t2i`: a text-to-image UNet on whole scenes and their captions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from profi.mini import models
from profi.mini.training.diffusion import fit
from profi.mini.training.loop import Plan
from profi.mini.world import World

PLANS = {
    "cpu": Plan(steps=8000, batch=64, rate=1e-3, warmup=200, decay=0.25, ema=0.9995),
    "gpu": Plan(steps=60000, batch=256, rate=6e-4, warmup=500, decay=0.25, ema=0.9995),
}


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train from scratch (or the checkpoint) and save to `work/models/t2i`."""
    plan = replace(PLANS[world.size], minutes=minutes)
    torch.manual_seed(seed + 1)
    unet = models.unet(world, in_channels=world.latent_channels)
    return fit(unet, world, device, work, "t2i", plan, seed)
