"""Stage `smartbrush`: SmartBrush from the text-to-image UNet, by the training of the real one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator

from profi.mini import models
from profi.mini.training.loop import console
from profi.mini.world import World
from profi.training import loop
from profi.training.examples import TextToImage
from profi.training.identity import start_identity
from profi.training.result import save_model, told
from profi.training.scenes import MINI, Scenes
from profi.training.smartbrush import from_text_to_image

RECIPES = {
    "cpu": MINI,
    "gpu": replace(MINI, steps=20000, batch=256, rate=4e-4, warmup=500, decay=0.3),
}
POOLS = {"cpu": 8192, "gpu": 65536}


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train from `work/models/t2i` (or the checkpoint) and save to `work/models/smartbrush`.

    Where `minutes` end it early, nothing is saved but the checkpoint.
    """
    recipe = replace(RECIPES[world.size], seed=seed)
    on_cpu = device.type == "cpu"
    emulated = on_cpu and not torch.cpu._is_avx512_bf16_supported()
    accelerator = Accelerator(mixed_precision="no" if emulated else "bf16", cpu=on_cpu)
    folder = work / "models" / "t2i"
    model = TextToImage.load(folder, work / "models").to(accelerator.device)

    def tell(step: int, _: float, losses: dict[str, float]) -> None:
        console.print(f"smartbrush {told(step, recipe.steps, losses)}")

    scenes = Scenes(world, model, recipe, POOLS[world.size])
    unet, figures = loop.train(
        from_text_to_image(model.unet, recipe.coarsest),
        model,
        scenes,
        recipe,
        work / "smartbrush",
        accelerator,
        identity={**start_identity(folder, work / "models"), **scenes.identity},
        save_every=100,
        stop=lambda _, seconds: seconds > 60 * minutes,
        tell=tell,
    )
    figures["parameters"] = models.parameters(unet)
    if figures["steps"] < recipe.steps:
        console.print(
            f"smartbrush stopped at update {figures['steps']} of {recipe.steps} and left no model: "
            "the same command goes on"
        )
    else:
        save_model(unet, folder, work / "models" / "smartbrush")
    return figures
