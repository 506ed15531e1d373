"""Stage `ship`: copy the trained models and the data into the package.

shipped/<size>/inpaint  unet vae text_encoder tokenizer scheduler   (diffusers' layout)
shipped/<size>/t2i      unet scheduler, the rest is the inpainting model's
shipped/<size>/{clip,detector,aesthetic,data}
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from profi.mini.world import World

SHARED = ("vae", "text_encoder", "tokenizer")
LIMIT_MB = 40


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Replace what `world.folder` holds; returns its size in MB."""
    models, target = work / "models", world.folder
    if target.exists():
        shutil.rmtree(target)
    for name in ("t2i", "inpaint", "clip", "detector", "aesthetic"):
        shutil.copytree(models / name, target / name)
    for name in SHARED:
        shutil.copytree(models / name, target / "inpaint" / name)
    index = {
        "_class_name": "StableDiffusionInpaintPipeline",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
    }
    (target / "inpaint" / "model_index.json").write_text(json.dumps(index, indent=1) + "\n")
    shutil.copytree(work / "data", target / "data")
    shutil.copy(work / "figures.json", target / "figures.json")
    size = sum(f.stat().st_size for f in target.rglob("*") if f.is_file()) / 1e6
    if size > LIMIT_MB:
        raise RuntimeError(f"{target} holds {size:.1f} MB, more than the {LIMIT_MB} MB that ship")
    return {"megabytes": round(size, 1)}
