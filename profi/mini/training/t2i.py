"""Stage `t2i`: a text-to-image UNet on whole scenes and their captions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from profi.mini import models
from profi.mini.training.diffusion import PoolPlan, fit
from profi.mini.training.loop import Plan
from profi.mini.world import World

PLANS = {
    "cpu": Plan(steps=1800, batch=64, rate=1e-3, warmup=200, decay=0.25),
    "gpu": Plan(steps=60000, batch=256, rate=6e-4, warmup=500, decay=0.25),
}
POOLS = {"cpu": PoolPlan(20480, 12), "gpu": PoolPlan(65536, 2)}


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train from scratch (or the checkpoint) and save to `work/models/t2i`."""
    plan = replace(PLANS[world.size], minutes=minutes)
    torch.manual_seed(seed + 1)
    unet = models.unet(world, in_channels=4)
    return fit(unet, world, device, work, "t2i", plan, POOLS[world.size], seed)
