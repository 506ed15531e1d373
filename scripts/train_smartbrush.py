"""Train SmartBrush (Table 1) from a text-to-image model: see docs/smartbrush.md.

    python scripts/train_smartbrush.py data=scenes                     # the embedded world, a CPU
        [model=FOLDER] [parts=FOLDER] [work=outputs/smartbrush] [precision=no|bf16|fp16]
        [save_every=1000] [cpu=yes|no] [RECIPE=VALUE ...]

`model` is a text-to-image model in the diffusers layout, `parts` where its VAE, text encoder and
tokenizer lie if not there. RECIPE is any setting of `profi.training.recipe.Recipe`. What was
stopped goes on from its checkpoint in `work`; the result is `work`/model.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console

from profi.config import shipped_path
from profi.mini.world import world
from profi.training import loop
from profi.training.examples import TextToImage
from profi.training.scenes import MINI, Scenes
from profi.training.smartbrush import from_text_to_image
from profi.types import UserError

DEFAULTS = {
    "data": "scenes",
    "model": "shipped:cpu/t2i",
    "parts": "shipped:cpu/inpaint",
    "work": "outputs/smartbrush",
    "precision": "no",
    "save_every": "1000",
    "cpu": "no",
}


def main(arguments: list[str]) -> None:
    """Train, and write the model in half precision and `figures.json`."""
    mine = {a.partition("=")[0]: a.partition("=")[2] for a in arguments}
    chosen = DEFAULTS | {k: v for k, v in mine.items() if k in DEFAULTS}
    recipe = MINI.changed([a for a in arguments if a.partition("=")[0] not in DEFAULTS])
    work = Path(chosen["work"])
    accelerator = Accelerator(
        mixed_precision=chosen["precision"],
        gradient_accumulation_steps=recipe.accumulate,
        cpu=chosen["cpu"] == "yes",
    )
    model = TextToImage.load(shipped_path(chosen["model"]), shipped_path(chosen["parts"]))
    model.vae.to(accelerator.device)
    model.text.to(accelerator.device)
    source = Scenes(world("cpu"), model, recipe)
    console = Console(soft_wrap=True)

    def tell(step: int, seconds: float, losses: dict[str, float]) -> None:
        text = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        console.print(f"{step}/{recipe.steps}  {text}  {seconds:.0f} s")

    unet, figures = loop.train(
        from_text_to_image(model.unet, recipe.coarsest),
        model,
        source,
        recipe,
        work,
        accelerator,
        save_every=int(chosen["save_every"]),
        tell=tell,
    )
    if accelerator.is_main_process:
        target = work / "model"
        shutil.rmtree(target, ignore_errors=True)
        unet.half().save_pretrained(target / "unet")
        shutil.copytree(shipped_path(chosen["model"]) / "scheduler", target / "scheduler")
        figures["parameters"] = sum(p.numel() for p in unet.parameters())
        where = "CPU" if accelerator.device.type == "cpu" else torch.cuda.get_device_name()
        figures |= {"device": where, "torch": torch.__version__}
        (work / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
