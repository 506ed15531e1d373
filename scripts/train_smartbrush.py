"""Train SmartBrush (a row of Table 1) from a text-to-image model: docs/smartbrush.md.

    python scripts/train_smartbrush.py data=scenes                  # the embedded world, on a CPU
    python scripts/train_smartbrush.py data=coco precision=bf16 crop_captions=crops.jsonl
        [model=Lykon/dreamshaper-8] [OPTION=VALUE ...] [SETTING=VALUE ...]
    torchrun --nproc_per_node N scripts/train_smartbrush.py ...     # on N GPUs

`--help` lists options and settings. What was stopped goes on from its checkpoint in `work`; the
result is `work`/model.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from diffusers import UNet2DConditionModel
from rich.console import Console

from profi.data.coco import read_coco
from profi.data.manifest import sample_triplets
from profi.harness.progress import byte_meter
from profi.mini.world import world
from profi.models.folder import from_hub
from profi.settings import shipped_path
from profi.settings.presets import hub_id
from profi.training import loop
from profi.training.coco_files import coco_files
from profi.training.examples import Source, TextToImage
from profi.training.identity import coco_identity, start_identity
from profi.training.instance_list import read_instances
from profi.training.instances import CocoSource, Instances, read_captions
from profi.training.options import Options, help_text
from profi.training.pictures import Pictures
from profi.training.recipe import Recipe
from profi.training.result import save_model, told
from profi.training.scenes import Scenes
from profi.training.smartbrush import from_text_to_image
from profi.training.wandb_run import open_run
from profi.types import Triplet, UserError

# The first process paints pictures and fetches files while the others wait.
LONGEST_WAIT = timedelta(hours=6)


def main(arguments: list[str]) -> None:
    """Train, and write the model and `figures.json`; or print the help."""
    if {"-h", "--help"} & set(arguments):
        print(help_text(__doc__ or ""))
        return
    options, recipe = Options.read(arguments)
    work, console = Path(options.work), Console(soft_wrap=True)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"work={work}: {error.strerror}; name a folder") from error
    # First what is cheap: a mistake shows before anything large is fetched.
    crops = captions_of(options, recipe)
    triplets = triplets_of(options)
    accelerator = Accelerator(
        mixed_precision=options.precision or None,
        gradient_accumulation_steps=recipe.accumulate,
        cpu=options.cpu == "yes",
        log_with="wandb" if options.wandb else None,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
    )
    if not accelerator.is_main_process:
        console.quiet = True
    if options.wandb:
        open_run(accelerator, options.wandb, work, asdict(options) | asdict(recipe))
    start = folder_of(options.model)
    parts = folder_of(options.parts) if options.parts else start
    model = TextToImage.load(start, parts).to(accelerator.device)
    model.check_side(options.side)
    source, of_data = source_of(options, model, recipe, crops, console)
    pictures = pictures_of(options, model, recipe, triplets)
    samples = recipe.batch * recipe.accumulate * accelerator.num_processes
    console.print(
        f"{accelerator.num_processes} process(es) on {accelerator.device.type}, "
        f"precision={accelerator.mixed_precision}, {samples} samples an update"
    )

    def tell(step: int, seconds: float, losses: dict[str, float]) -> None:
        console.print(f"{told(step, recipe.steps, losses)}  {seconds:.0f} s")
        accelerator.log(losses, step=step)

    def show(pictures: Pictures, unet: UNet2DConditionModel, step: int) -> None:
        sheet = pictures(unet, step)
        if options.wandb:
            import wandb

            accelerator.log({"validation": wandb.Image(str(sheet))}, step=step)

    unet, figures = loop.train(
        from_text_to_image(model.unet, recipe.coarsest),
        model,
        source,
        recipe,
        work,
        accelerator,
        identity={**start_identity(start, parts), "data": options.data, **of_data},
        save_every=options.save_every,
        tell=tell,
        show=None if pictures is None else lambda unet, step: show(pictures, unet, step),
        show_every=options.show_every,
    )
    if accelerator.is_main_process:
        parameters = unet.num_parameters()
        save_model(unet, start, work / "model", parts)
        on = accelerator.device
        where = torch.cuda.get_device_name(on) if on.type == "cuda" else on.type.upper()
        figures |= {"parameters": parameters, "device": where, "torch": torch.__version__}
        (work / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
        console.print(f"{work / 'model'}")
    accelerator.wait_for_everyone()
    accelerator.end_training()


def folder_of(text: str) -> Path:
    """A model's folder: one that ships, a local one, or a snapshot of a Hub repository."""
    return from_hub(text) if hub_id(text) else shipped_path(text)


def captions_of(options: Options, recipe: Recipe) -> Mapping[int, str]:
    """The captions of MSCOCO's crops; UserError where the recipe wants some and there are none."""
    if options.data != "coco":
        return {}
    if options.crop_captions:
        return read_captions(shipped_path(options.crop_captions))
    if recipe.captions > 0:
        raise UserError(
            "crop_captions=... is missing: write them with scripts/caption_crops.py, or train on "
            "labels with captions=0"
        )
    return {}


def triplets_of(options: Options) -> list[Triplet]:
    """The validation triplets that sheets are to show."""
    if not options.pictures or not options.val_root:
        return []
    root = shipped_path(options.val_root)
    if not root.is_dir():
        raise UserError(f"val_root={root} is no folder: give that of the validation pictures")
    found = read_coco(shipped_path(options.val_annotations)).triplets
    return list(sample_triplets(found, min(options.pictures, len(found)), seed=0))


def source_of(
    options: Options,
    model: TextToImage,
    recipe: Recipe,
    crops: Mapping[int, str],
    console: Console,
) -> tuple[Source, dict[str, object]]:
    """The samples, and what they are of."""
    if options.data == "scenes":
        scenes = Scenes(world("cpu"), model, recipe, options.pool)
        return scenes, scenes.identity
    named = {name: str(value) for name, value in asdict(options).items()}
    files = coco_files(named, lambda name: byte_meter(name, console))
    instances = read_instances(*files, options.min_share)
    data = Instances(instances, crops, options.side, recipe)
    captions = shipped_path(options.crop_captions) if options.crop_captions else None
    of = coco_identity(files, captions, len(instances), options.side, options.min_share)
    return CocoSource(data, model, options.workers), of


def pictures_of(
    options: Options, model: TextToImage, recipe: Recipe, triplets: list[Triplet]
) -> Pictures | None:
    """What paints the validation triplets, if there are any."""
    if not triplets:
        return None
    return Pictures(
        model,
        shipped_path(options.val_root),
        triplets,
        Path(options.work) / "pictures",
        options.side,
        level=min(2, recipe.coarsest),
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
