"""Stage `ship`: copy the trained models and the data into the package.

shipped/<size>/inpaint  unet vae text_encoder tokenizer scheduler   (diffusers' layout)
shipped/<size>/{t2i,smartbrush}  unet scheduler, the rest is the inpainting model's
shipped/<size>/controlnet        next to the t2i UNet
shipped/<size>/{clip,detector,aesthetic,data}
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from profi.mini.world import World
from profi.types import UserError

MODELS = ("t2i", "inpaint", "controlnet", "smartbrush", "clip", "detector", "aesthetic")
SHARED = ("vae", "text_encoder", "tokenizer")
MODEL_INDEX = {
    "_class_name": "StableDiffusionInpaintPipeline",
    # StableDiffusionInpaintPipeline.from_pretrained does not load a folder that lacks it.
    "_diffusers_version": "0.36.0",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
}
LIMIT_MB = 60


def forget_folders(shipped: Path) -> None:
    """Remove the folder that a model was loaded from, which the libraries keep in its config."""
    for path in shipped.rglob("config.json"):
        config = json.loads(path.read_text())
        if config.pop("_name_or_path", ""):
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Replace what `world.folder` holds; returns its size in MB."""
    models, target = work / "models", world.folder
    required = [*(models / name for name in (*MODELS, *SHARED)), work / "data"]
    missing = [path.name for path in required if not path.is_dir()]
    if missing:
        raise UserError(f"stage=ship needs {', '.join(missing)} in {work}: run those stages first")
    fresh = target.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    for name in MODELS:
        shutil.copytree(models / name, fresh / name)
    for name in SHARED:
        shutil.copytree(models / name, fresh / "inpaint" / name)
    index = json.dumps(MODEL_INDEX, indent=1) + "\n"
    (fresh / "inpaint" / "model_index.json").write_text(index)
    forget_folders(fresh)
    shutil.copytree(work / "data", fresh / "data")
    shutil.copy(work / "figures.json", fresh / "figures.json")
    size = sum(f.stat().st_size for f in fresh.rglob("*") if f.is_file()) / 1e6
    if size > LIMIT_MB:
        raise UserError(f"{fresh} holds {size:.1f} MB, more than the {LIMIT_MB} MB that ship")
    if target.exists():
        shutil.rmtree(target)
    fresh.rename(target)
    return {"megabytes": round(size, 1)}
