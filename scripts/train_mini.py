"""Train the embedded world's models.

    python scripts/train_mini.py stage=vae|clip|detector|t2i|inpaint|aesthetic|all [size=cpu|gpu]
                                 [work=outputs/mini] [seed=0] [minutes=30] [device=auto]

Stages build on one another: vae and clip first, then t2i, then inpaint; detector needs neither;
aesthetic needs clip. A stage that was stopped goes on from its checkpoint in `work`.
`stage=scenes` writes the COCO-format validation data; `stage=ship` copies what was trained,
in half precision, into the package.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import torch

from profi.mini.world import world
from profi.types import UserError

STAGES = ("scenes", "vae", "clip", "detector", "t2i", "inpaint", "aesthetic", "ship")
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
    if chosen["stage"] not in (*STAGES, "all"):
        raise UserError(f"stage={chosen['stage']}: stages are {' '.join(STAGES)} all")
    return chosen


def main(arguments: list[str]) -> None:
    """Run the chosen stages and record their figures in `work/<size>/figures.json`."""
    chosen = options(arguments)
    size = world(chosen["size"])
    name = chosen["device"]
    device = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    )
    if int(chosen["threads"]):
        torch.set_num_threads(int(chosen["threads"]))
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    work = Path(chosen["work"]) / size.size
    work.mkdir(parents=True, exist_ok=True)
    book = work / "figures.json"
    for stage in STAGES if chosen["stage"] == "all" else (chosen["stage"],):
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
