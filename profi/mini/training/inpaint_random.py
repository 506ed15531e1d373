"""Stage `inpaint_random`: the inpainting UNet goes on, long, with random masks alone.

Stable Inpainting was trained so (paper, sec. 3.1), on captions from the web: such a mask seldom
covers what the caption of the whole scene names, and the caption is not always the picture's. So
the model learns to trust what it sees around the hole more than the text: the neglect of prompts
that the paper sets out to mend.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

from profi.mini.captions import CaptionNoise
from profi.mini.training.diffusion import Holes, fit
from profi.mini.training.loop import Plan
from profi.mini.world import World

PLANS = {
    "cpu": Plan(steps=16000, batch=64, rate=8e-4, warmup=100, decay=0.5, ema=0.9995),
    "gpu": Plan(steps=40000, batch=256, rate=2e-4, warmup=500, decay=0.5, ema=0.9995),
}
NOISE = CaptionNoise(left_out=0.2, foreign=0.2)


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train from `work/models/inpaint` (or the checkpoint) and replace it."""
    folder = work / "models" / "inpaint" / "unet"
    plan = replace(PLANS[world.size], minutes=minutes)
    unet = UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32)
    return fit(unet, world, device, work, "inpaint_random", plan, seed + 2000, NOISE, Holes())
