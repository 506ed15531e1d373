"""Stage `smartbrush`: SmartBrush from the text-to-image UNet, by the training of the real one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator

from profi.mini import models
from profi.mini.training.loop import console
from profi.mini.world import World
from profi.training import loop
from profi.training.examples import TextToImage
from profi.training.scenes import MINI, Scenes
from profi.training.smartbrush import from_text_to_image

RECIPES = {
    "cpu": MINI,
    "gpu": replace(MINI, steps=20000, batch=256, rate=4e-4, warmup=500, decay=0.3),
}
POOLS = {"cpu": 8192, "gpu": 65536}


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train from `work/models/t2i` (or the checkpoint) and save to `work/models/smartbrush`."""
    recipe = replace(RECIPES[world.size], seed=seed)
    on_cpu = device.type == "cpu"
    emulated = on_cpu and not torch.cpu._is_avx512_bf16_supported()
    accelerator = Accelerator(mixed_precision="no" if emulated else "bf16", cpu=on_cpu)
    folder = work / "models" / "t2i"
    model = TextToImage.load(folder, work / "models").to(device)

    def tell(step: int, _: float, losses: dict[str, float]) -> None:
        text = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        console.print(f"smartbrush {step}/{recipe.steps}  {text}")

    unet, figures = loop.train(
        from_text_to_image(model.unet, recipe.coarsest),
        model,
        Scenes(world, model, recipe, POOLS[world.size]),
        recipe,
        work / "smartbrush",
        accelerator,
        save_every=100,
        stop=lambda _, seconds: seconds > 60 * minutes,
        tell=tell,
    )
    target = work / "models" / "smartbrush"
    unet.half().save_pretrained(target / "unet")
    shutil.copytree(folder / "scheduler", target / "scheduler", dirs_exist_ok=True)
    return {**figures, "parameters": models.parameters(unet)}
