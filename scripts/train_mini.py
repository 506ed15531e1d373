"""Train the embedded world's models.

    python scripts/train_mini.py
        stage=scenes|vae|clip|detector|latents|t2i|inpaint|inpaint_random|controlnet|smartbrush|
              aesthetic|ship|all
        [size=cpu|gpu] [work=outputs/mini] [seed=0] [minutes=30] [device=auto] [threads=2]

`all` runs them in the order of STAGES. A stage that was stopped goes on from its checkpoint in
`work`, which belongs to one size, seed and set of sprites. `stage=scenes` writes the COCO-format
validation data; `stage=ship` copies what was trained, in half precision, into the package;
`stage=clip_vision`, not part of `all`, trains CLIP's vision tower anew after a change of scenes.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from profi.mini.world import SPRITES, World, world
from profi.models.devices import resolve_device
from profi.types import UserError, digest

STAGES = (
    "scenes",
    "vae",
    "clip",
    "detector",
    "latents",
    "t2i",
    "inpaint",
    "inpaint_random",
    "controlnet",
    "smartbrush",
    "aesthetic",
    "ship",
)
ONCE = ("clip_vision",)  # not part of `all`
# What a stage finds in `work`, by the stage that makes it.
_UNET = {"latents": "latents", "models/text_encoder": "clip"}
NEEDS = {
    "detector": {"data": "scenes"},
    "latents": {"models/vae": "vae"},
    "t2i": _UNET,
    "inpaint": {**_UNET, "models/t2i": "t2i"},
    "inpaint_random": {**_UNET, "models/inpaint": "inpaint"},
    "controlnet": {"models/vae": "vae", "models/text_encoder": "clip", "models/t2i": "t2i"},
    "smartbrush": {"models/vae": "vae", "models/text_encoder": "clip", "models/t2i": "t2i"},
    "aesthetic": {"models/clip": "clip"},
    "clip_vision": {"models/clip": "clip"},
}
DEFAULTS = {
    "stage": "all",
    "size": "cpu",
    "work": "outputs/mini",
    "seed": "0",
    "minutes": "inf",
    "device": "auto",
    "threads": "0",
}


def options(arguments: list[str]) -> dict[str, str]:
    """`key=value` arguments over the defaults."""
    chosen = dict(DEFAULTS)
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in DEFAULTS or not value:
            raise UserError(f"{argument}: options are {' '.join(f'{k}=...' for k in DEFAULTS)}")
        chosen[key] = value
    if chosen["stage"] not in (*STAGES, *ONCE, "all"):
        raise UserError(f"stage={chosen['stage']}: stages are {' '.join((*STAGES, *ONCE))} all")
    for key, kind in (("seed", int), ("threads", int), ("minutes", float)):
        try:
            kind(chosen[key])
        except ValueError as error:
            raise UserError(f"{key}={chosen[key]}: must be a number") from error
    return chosen


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
    chosen = options(arguments)
    size = world(chosen["size"])
    name = chosen["device"]
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(resolve_device("device", name))
    if int(chosen["threads"]):
        torch.set_num_threads(int(chosen["threads"]))
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    work = Path(chosen["work"]) / size.size
    claim(work, size, int(chosen["seed"]))
    book = work / "figures.json"
    for stage in STAGES if chosen["stage"] == "all" else (chosen["stage"],):
        missing = [
            maker for path, maker in NEEDS.get(stage, {}).items() if not (work / path).exists()
        ]
        if missing:
            raise UserError(f"stage={stage} builds on stage={missing[0]}: run that first")
        module = importlib.import_module(f"profi.mini.training.{stage}")
        figures = module.run(size, device, work, int(chosen["seed"]), float(chosen["minutes"]))
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
