"""Train SmartBrush (a row of Table 1) from a text-to-image model: docs/smartbrush.md.

    accelerate launch scripts/train_smartbrush.py data=coco crop_captions=crops.jsonl
        [model=Lykon/dreamshaper-8] [OPTION=VALUE ...] [SETTING=VALUE ...]
    python scripts/train_smartbrush.py data=scenes                  # the embedded world, on a CPU

Options and their defaults are OPTIONS below, settings those of `profi.training.recipe.Recipe`.
What was stopped goes on from its checkpoint in `work`; the result is `work`/model.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console

from profi.config import shipped_path
from profi.data.coco import read_coco
from profi.data.sample import sample_triplets
from profi.inpainters.model_folder import from_hub
from profi.mini.world import world
from profi.presets import hub_id
from profi.runners.progress import byte_meter
from profi.training import loop
from profi.training.coco_files import coco_files
from profi.training.examples import Source, TextToImage
from profi.training.instances import CocoSource, Instances, read_captions, read_instances
from profi.training.pictures import Pictures
from profi.training.recipe import Recipe
from profi.training.scenes import MINI, Scenes
from profi.training.smartbrush import from_text_to_image
from profi.types import UserError

OPTIONS = {
    "data": "scenes",  # or coco
    "model": "",  # a folder in the diffusers layout or a Hub id
    "parts": "",  # where the VAE and the text encoder lie, if not in `model`
    "work": "outputs/smartbrush",
    "precision": "no",  # bf16, fp16
    "cpu": "no",  # yes: no GPU, if there is one
    "save_every": "1000",
    "show_every": "1000",
    "pictures": "8",  # how many validation triplets are painted then; 0 for none
    "val_root": "",
    "val_annotations": "",
    "wandb": "",  # a W&B project
    # Of data=coco; train2017 is fetched into `cache` where these are empty:
    "cache": "",
    "root": "",
    "annotations": "",
    "image_captions": "",
    "crop_captions": "",
    "side": "512",
    "min_share": "0.02",  # of a picture, that an object's box must cover
    "workers": "4",
}
MINI_DEFAULTS = {
    "model": "shipped:cpu/t2i",
    "parts": "shipped:cpu/inpaint",
    "val_root": "shipped:cpu/data/images",
    "val_annotations": "shipped:cpu/data/instances_val.json",
    "side": "64",
}
COCO_DEFAULTS = {"model": "Lykon/dreamshaper-8"}
NUMBERS = {"save_every": int, "show_every": int, "pictures": int, "side": int, "workers": int}


def options(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """The options over their defaults, and the recipe's settings; UserError for a bad one."""
    given = {a.partition("=")[0]: a.partition("=")[2] for a in arguments}
    data = given.get("data", OPTIONS["data"])
    if data not in ("scenes", "coco"):
        raise UserError(f"data={data}: choose scenes or coco")
    chosen = OPTIONS | (MINI_DEFAULTS if data == "scenes" else COCO_DEFAULTS)
    chosen |= {name: value for name, value in given.items() if name in OPTIONS}
    for name, kind in {**NUMBERS, "min_share": float}.items():
        try:
            ok = kind(chosen[name]) >= (1 if name.endswith("_every") or name == "side" else 0)
        except ValueError:
            ok = False
        if not ok:
            raise UserError(f"{name}={chosen[name]}: must be a number that is not negative")
    for name, allowed in {"precision": ("no", "bf16", "fp16"), "cpu": ("no", "yes")}.items():
        if chosen[name] not in allowed:
            raise UserError(f"{name}={chosen[name]}: choose {' or '.join(allowed)}")
    if chosen["wandb"] and importlib.util.find_spec("wandb") is None:
        raise UserError("wandb is not installed: pip install 'profi[wandb]'")
    settings = [a for a in arguments if a.partition("=")[0] not in OPTIONS]
    return chosen, settings


def folder_of(text: str) -> Path:
    """A model's folder: one that ships, a local one, or a snapshot of a Hub repository."""
    return from_hub(text) if hub_id(text) else shipped_path(text)


def source_of(
    chosen: dict[str, str], model: TextToImage, recipe: Recipe, console: Console
) -> Source:
    """The samples."""
    if chosen["data"] == "scenes":
        return Scenes(world("cpu"), model, recipe)
    files = coco_files(chosen, lambda name: byte_meter(name, console))
    instances = read_instances(*files, float(chosen["min_share"]))
    crops = chosen["crop_captions"]
    captions = read_captions(shipped_path(crops)) if crops else {}
    return CocoSource(
        Instances(instances, captions, int(chosen["side"]), recipe), model, int(chosen["workers"])
    )


def pictures_of(chosen: dict[str, str], model: TextToImage, recipe: Recipe) -> Pictures | None:
    """What paints the validation triplets, if there are any."""
    count = int(chosen["pictures"])
    if not count or not chosen["val_root"]:
        return None
    candidates = read_coco(shipped_path(chosen["val_annotations"]))
    return Pictures(
        model,
        shipped_path(chosen["val_root"]),
        sample_triplets(candidates.triplets, min(count, len(candidates.triplets)), seed=0),
        Path(chosen["work"]) / "pictures",
        int(chosen["side"]),
        level=min(2, recipe.coarsest),
    )


def save(unet: Any, chosen: dict[str, str], target: Path) -> None:
    """The whole model in the diffusers layout, the UNet in half precision."""
    shutil.rmtree(target, ignore_errors=True)
    unet.half().save_pretrained(target / "unet")
    model = folder_of(chosen["model"])
    parts = folder_of(chosen["parts"]) if chosen["parts"] else model
    shutil.copytree(model / "scheduler", target / "scheduler")
    for part in ("vae", "text_encoder", "tokenizer"):
        shutil.copytree(parts / part, target / part)


def main(arguments: list[str]) -> None:
    """Train, and write the model and `figures.json`."""
    chosen, settings = options(arguments)
    recipe = (MINI if chosen["data"] == "scenes" else Recipe()).changed(settings)
    work, console = Path(chosen["work"]), Console(soft_wrap=True)
    accelerator = Accelerator(
        mixed_precision=chosen["precision"],
        gradient_accumulation_steps=recipe.accumulate,
        cpu=chosen["cpu"] == "yes",
        log_with="wandb" if chosen["wandb"] else None,
    )
    model_folder = folder_of(chosen["model"])
    parts = folder_of(chosen["parts"]) if chosen["parts"] else model_folder
    model = TextToImage.load(model_folder, parts).to(accelerator.device)
    source, pictures = source_of(chosen, model, recipe, console), pictures_of(chosen, model, recipe)
    if chosen["wandb"]:
        accelerator.init_trackers(chosen["wandb"], config={**chosen, **asdict(recipe)})

    def tell(step: int, seconds: float, losses: dict[str, float]) -> None:
        text = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        console.print(f"{step}/{recipe.steps}  {text}  {seconds:.0f} s")
        accelerator.log(losses, step=step)

    def show(unet: Any, step: int) -> None:
        if pictures is None:
            return
        sheet = pictures(unet, step)
        if chosen["wandb"]:
            import wandb

            accelerator.log({"validation": wandb.Image(str(sheet))}, step=step)

    unet, figures = loop.train(
        from_text_to_image(model.unet, recipe.coarsest),
        model,
        source,
        recipe,
        work,
        accelerator,
        save_every=int(chosen["save_every"]),
        tell=tell,
        show=show,
        show_every=int(chosen["show_every"]),
    )
    if accelerator.is_main_process:
        save(unet, chosen, work / "model")
        on = accelerator.device
        where = torch.cuda.get_device_name(on) if on.type == "cuda" else on.type.upper()
        figures |= {
            "parameters": unet.num_parameters(),
            "device": where,
            "torch": torch.__version__,
        }
        (work / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
        console.print(f"{work / 'model'}")
    accelerator.end_training()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
