"""Train the embedded world's models.

    python scripts/train_mini.py stage=all [size=cpu] [work=outputs/mini] [SETTING=VALUE ...]

`--help` lists the settings. `stage=all` runs the stages in their order. A stage that was stopped
goes on from its checkpoint in `work`, which belongs to one size, seed and set of sprites.
`stage=scenes` writes the COCO-format validation data; `stage=ship` copies what was trained, in half
precision, into the package; `stage=clip_vision`, not part of `all`, trains CLIP's vision tower anew
after a change of scenes.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from profi.cli.arguments import help_text, parsed
from profi.mini.world import SPRITES, World, world
from profi.models.devices import resolve_device
from profi.settings.fields import check_fields, setting
from profi.types import UserError, digest

#: A stage's module in profi.mini.training, and its function.
STAGES = {
    "scenes": "scene_files:run",
    "vae": "vae:run",
    "clip": "clip:run",
    "detector": "detector:run",
    "latents": "latents:run",
    "t2i": "diffusion:run_t2i",
    "inpaint": "diffusion:run_inpaint",
    "inpaint_random": "diffusion:run_random",
    "controlnet": "controlnet:run",
    "smartbrush": "smartbrush_stage:run",
    "aesthetic": "aesthetic:run",
    "ship": "ship:run",
}
# Not part of `all`; the upscaler ships by itself.
ONCE = {
    "clip_vision": "clip:run_vision",
    "upscaler_vae": "upscaler:run_vae",
    "upscaler_decoder": "upscaler:run_decoder",
    "upscaler": "upscaler:run",
    "ship_upscaler": "upscaler:ship",
}
# What a stage finds in `work`, by the stage that makes it.
_UNET = {"latents": "latents", "models/text_encoder": "clip"}
_MODELS = {"models/vae": "vae", "models/text_encoder": "clip", "models/t2i": "t2i"}
NEEDS = {
    "detector": {"data": "scenes"},
    "latents": {"models/vae": "vae"},
    "t2i": _UNET,
    "inpaint": {**_UNET, "models/t2i": "t2i"},
    "inpaint_random": {**_UNET, "models/inpaint": "inpaint"},
    "controlnet": _MODELS,
    "smartbrush": _MODELS,
    "aesthetic": {"models/clip": "clip"},
    "clip_vision": {"models/clip": "clip"},
    "upscaler_decoder": {"models/upscaler/vae": "upscaler_vae"},
    "upscaler": {"models/upscaler/vae": "upscaler_vae"},
    "ship_upscaler": {"models/upscaler/unet": "upscaler"},
}


@dataclass(frozen=True)
class Options:
    """What is trained, and where."""

    stage: str = setting("all", f"{' '.join((*STAGES, *ONCE))} all")
    size: Literal["cpu", "gpu"] = setting("cpu", "of the world and its models")
    work: str = setting("outputs/mini", "the folder of checkpoints, losses and models")
    seed: int = setting(0, "of everything random", at_least=0)
    minutes: float | None = setting(None, "after which a stage stops", at_least=0)
    device: str = setting("auto", "a device's name; auto: a GPU if there is one")
    threads: int = setting(0, "of the CPU; 0: as torch chooses", at_least=0)

    def __post_init__(self) -> None:
        check_fields("", self)
        if self.stage not in (*STAGES, *ONCE, "all"):
            raise UserError(f"stage={self.stage}: stages are {' '.join((*STAGES, *ONCE))} all")


def claim(work: Path, size: World, seed: int) -> None:
    """Note what `work` belongs to; UserError where it belongs to something else.

    So a checkpoint is never gone on with under another seed, or after sprites changed sides
    between training and validation.
    """
    sprites = [path.read_bytes() for path in sorted(SPRITES.glob("sprites.*"))]
    mine = {
        "world": digest(asdict(size)),
        "seed": seed,
        "sprites": hashlib.sha256(b"".join(sprites)).hexdigest(),
    }
    note = work / "belongs.json"
    work.mkdir(parents=True, exist_ok=True)
    if not note.exists():
        note.write_text(json.dumps(mine, indent=1) + "\n")
    theirs = json.loads(note.read_text())
    other = [key for key in mine if mine[key] != theirs.get(key)]
    if other:
        raise UserError(f"{work} was trained with another {', '.join(other)}: give another work=")


def main(arguments: list[str]) -> None:
    """Run the chosen stages and record their figures in `work/<size>/figures.json`."""
    if {"-h", "--help"} & set(arguments):
        print(help_text(__doc__ or "", all=[Options()]))
        return
    (options,) = parsed(arguments, Options())
    size, name = world(options.size), options.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(resolve_device("device", name))
    if options.threads:
        torch.set_num_threads(options.threads)
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    work = Path(options.work) / size.size
    claim(work, size, options.seed)
    minutes = float("inf") if options.minutes is None else options.minutes
    book = work / "figures.json"
    for stage in STAGES if options.stage == "all" else (options.stage,):
        missing = [
            maker for path, maker in NEEDS.get(stage, {}).items() if not (work / path).exists()
        ]
        if missing:
            raise UserError(f"stage={stage} builds on stage={missing[0]}: run that first")
        module, _, function = (STAGES | ONCE)[stage].partition(":")
        run = getattr(importlib.import_module(f"profi.mini.training.{module}"), function)
        figures = run(size, device, work, options.seed, minutes)
        everything = json.loads(book.read_text()) if book.exists() else {}
        where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
        everything[stage] = {**figures, "device": where, "torch": torch.__version__}
        book.write_text(json.dumps(everything, indent=1) + "\n")
        print(stage, json.dumps(figures))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
