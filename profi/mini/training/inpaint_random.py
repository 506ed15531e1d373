"""Stage `inpaint_random`: the inpainting UNet goes on with random masks alone.

Stable Inpainting was trained so (paper, sec. 3.1). Such a mask seldom covers what the caption of
the whole scene names, so the model learns to trust what it sees around the hole more than the
text: the neglect of prompts that the paper sets out to mend.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

from profi.mini.training.diffusion import PoolPlan, fit
from profi.mini.training.loop import Plan
from profi.mini.world import World

PLANS = {
    "cpu": Plan(steps=500, batch=64, rate=4e-4, warmup=20, decay=0.6),
    "gpu": Plan(steps=20000, batch=256, rate=2e-4, warmup=500, decay=0.5),
}
POOLS = {"cpu": PoolPlan(8192, 4), "gpu": PoolPlan(65536, 2)}


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train from `work/models/inpaint` (or the checkpoint) and replace it."""
    folder = work / "models" / "inpaint" / "unet"
    plan = replace(PLANS[world.size], minutes=minutes)
    unet = UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32)
    pools = POOLS[world.size]
    return fit(unet, world, device, work, "inpaint_random", plan, pools, seed + 2000, 0.0)
