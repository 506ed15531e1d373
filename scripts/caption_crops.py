"""Caption the crops of MSCOCO's instances with BLIP, for scripts/train_smartbrush.py.

    python scripts/caption_crops.py out=crops.jsonl [cache=...] [root=train2017]
        [annotations=instances_train2017.json] [image_captions=captions_train2017.json]
        [blip=Salesforce/blip-image-captioning-base] [device=auto] [batch=64] [min_share=0.02]

Of train2017 what is not given is fetched into `cache` (the user's cache folder). What was stopped
goes on where it was, and tries again what it could not read; give `min_share` as in the training.
"""

from __future__ import annotations

import sys

from rich.console import Console

from profi.harness.progress import byte_meter
from profi.models.devices import resolve_device
from profi.settings import shipped_path
from profi.training.captions import Blip, begun, caption_instances
from profi.training.coco_files import coco_files
from profi.training.instance_list import read_instances
from profi.types import UserError

OPTIONS = {
    "cache": "",
    "root": "",
    "annotations": "",
    "image_captions": "",
    "out": "",
    "blip": "Salesforce/blip-image-captioning-base",
    "device": "auto",
    "batch": "64",
    "min_share": "0.02",
}


def main(arguments: list[str]) -> None:
    """Write the captions."""
    chosen = dict(OPTIONS)
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name not in OPTIONS:
            raise UserError(f"{argument}: options are {' '.join(f'{k}=...' for k in OPTIONS)}")
        chosen[name] = value
    if not chosen["out"]:
        raise UserError("out=... is missing: name the file of captions")
    try:
        batch, min_share = int(chosen["batch"]), float(chosen["min_share"])
    except ValueError as error:
        raise UserError("batch and min_share must be numbers") from error
    if batch < 1:
        raise UserError(f"batch={batch}: at least 1")
    console = Console(soft_wrap=True)
    # What can be refused at once comes before what takes minutes or more.
    target, device = shipped_path(chosen["out"]), resolve_device("device", chosen["device"])
    begun(target)
    blip = Blip.load(chosen["blip"], device)
    files = coco_files(chosen, lambda name: byte_meter(name, console))
    caption_instances(
        read_instances(*files, min_share),
        blip,
        target,
        batch,
        told=lambda done, total: console.print(f"{done:,} of {total:,}"),
        unreadable=lambda line: console.print(line, markup=False),
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
