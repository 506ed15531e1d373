"""Caption the crops of MSCOCO's instances with BLIP, for scripts/train_smartbrush.py.

    python scripts/caption_crops.py out=crops.jsonl [cache=...] [root=train2017]
        [annotations=instances_train2017.json] [image_captions=captions_train2017.json]
        [blip=Salesforce/blip-image-captioning-base] [device=auto] [batch=64] [min_share=0.02]

Of train2017 what is not given is fetched into `cache` (the user's cache folder). What was stopped
goes on where it was, and tries again what it could not read; give `min_share` as in the training.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

from rich.console import Console

from profi.cli.arguments import help_text, parsed
from profi.harness.progress import byte_meter
from profi.models.devices import resolve_device
from profi.settings import shipped_path
from profi.settings.fields import check_fields, setting
from profi.training.crop_captions import Blip, begun, caption_instances
from profi.training.instance_list import coco_files, read_instances
from profi.types import UserError


@dataclass(frozen=True)
class Options:
    """What is captioned, by what, and where the captions go."""

    out: str = setting("", "the file of captions")
    cache: str = setting("", "where train2017 is fetched to; empty: the user's cache")
    root: str = setting("", "a train2017 of your own")
    annotations: str = setting("", "its instances file")
    image_captions: str = setting("", "its captions file")
    blip: str = setting("Salesforce/blip-image-captioning-base", "a folder or a Hub id")
    device: str = setting("auto", "the device that captions")
    batch: int = setting(64, "crops at once", at_least=1)
    min_share: float = setting(
        0.02, "share of a picture that an object's box must cover", at_least=0
    )

    def __post_init__(self) -> None:
        check_fields("", self)


def main(arguments: list[str]) -> None:
    """Write the captions."""
    if {"-h", "--help"} & set(arguments):
        print(help_text(__doc__ or "", all=[Options()]))
        return
    (options,) = parsed(arguments, Options())
    if not options.out:
        raise UserError("out=... is missing: name the file of captions")
    console = Console(soft_wrap=True)
    # What can be refused at once comes before what takes minutes or more.
    target, device = shipped_path(options.out), resolve_device("device", options.device)
    begun(target)
    blip = Blip.load(options.blip, device)
    files = coco_files(asdict(options), lambda name: byte_meter(name, console))
    caption_instances(
        read_instances(*files, options.min_share),
        blip,
        target,
        options.batch,
        on_progress=lambda done, total: console.print(f"{done:,} of {total:,}"),
        unreadable=lambda line: console.print(line, markup=False),
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
