"""Train SmartBrush (a row of Table 1) from a text-to-image model: docs/smartbrush.md.

    python scripts/train_smartbrush.py data=scenes                  # the embedded world, on a CPU
    python scripts/train_smartbrush.py data=coco precision=bf16 crop_captions=crops.jsonl
        [model=Lykon/dreamshaper-8] [OPTION=VALUE ...] [SETTING=VALUE ...]
    torchrun --nproc_per_node N scripts/train_smartbrush.py ...     # on N GPUs

`--help` lists options and settings. What was stopped goes on from its checkpoint in `work`; the
result is `work`/model.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from diffusers import UNet2DConditionModel
from rich.console import Console

from profi.cli.arguments import help_text, parsed
from profi.data.coco import read_coco
from profi.data.manifest import sample_triplets
from profi.harness.progress import byte_meter
from profi.mini.training.smartbrush_stage import MINI, SceneSource
from profi.mini.world import world
from profi.models.model_folder import from_hub
from profi.settings import shipped_path
from profi.settings.fields import check_fields, setting
from profi.settings.presets import hub_id
from profi.training.examples import Source, TextToImage, start_fingerprint
from profi.training.instance_list import coco_files, coco_fingerprint, read_instances
from profi.training.instances import CocoSource, Instances, read_captions
from profi.training.metrics_log import loss_line, open_run
from profi.training.recipe import Recipe
from profi.training.smartbrush_loss import from_text_to_image
from profi.training.smartbrush_training import save_model, train_smartbrush
from profi.training.validation_sheets import ValidationSheets
from profi.types import Triplet, UserError

# The first process paints pictures and fetches files while the others wait.
LONGEST_WAIT = timedelta(hours=6)


@dataclass(frozen=True)
class Options:
    """The settings of a training apart from its recipe."""

    data: Literal["scenes", "coco"] = setting("scenes", "where samples come from")
    work: str = setting("outputs/smartbrush", "the folder of checkpoints, losses, pictures, model")
    model: str = setting("", "to start from: a folder in the diffusers layout or a Hub id")
    parts: str = setting("", "the folder of VAE and text encoder, if they are not in `model`")
    precision: Literal["", "no", "bf16", "fp16"] = setting("", "empty: accelerate's own setting")
    cpu: bool = setting(False, "yes: no GPU, even if there is one")
    save_every: int = setting(1000, "updates between two checkpoints", at_least=1)
    show_every: int = setting(1000, "updates between two sheets of pictures", at_least=1)
    pictures: int = setting(8, "validation triplets on a sheet; 0: no sheets", at_least=0)
    val_root: str = setting("", "the validation pictures' folder; empty: no sheets")
    val_annotations: str = setting("", "their instances file")
    wandb: str = setting("", "a W&B project")
    side: int = setting(512, "of the training's and the sheets' pictures, in pixels", at_least=1)
    pool: int = setting(8192, "data=scenes: scenes that are composed at once", at_least=1)
    cache: str = setting("", "data=coco: where train2017 is fetched to; empty: the user's cache")
    root: str = setting("", "data=coco: a train2017 of your own")
    annotations: str = setting("", "data=coco: its instances file")
    image_captions: str = setting("", "data=coco: its captions file")
    crop_captions: str = setting("", "data=coco: what scripts/caption_crops.py wrote")
    min_share: float = setting(
        0.02, "data=coco: share of a picture that an object's box must cover", at_least=0
    )
    workers: int = setting(4, "data=coco: processes that read pictures", at_least=0)

    def __post_init__(self) -> None:
        check_fields("", self)
        if not self.work:
            raise UserError("work=: name a folder")
        if self.pictures and bool(self.val_root) != bool(self.val_annotations):
            raise UserError("val_root=... and val_annotations=... go together: give both or none")
        if self.wandb and importlib.util.find_spec("wandb") is None:
            raise UserError("wandb is not installed: pip install -c constraints.txt -e '.[wandb]'")


DEFAULTS: dict[str, tuple[Options, Recipe]] = {
    "scenes": (
        Options(
            model="shipped:cpu/t2i",
            parts="shipped:cpu/inpaint",
            val_root="shipped:cpu/data/images",
            val_annotations="shipped:cpu/data/instances_val.json",
            side=world("cpu").image_size,
        ),
        MINI,
    ),
    "coco": (Options(data="coco", model="Lykon/dreamshaper-8"), Recipe()),
}


def read(arguments: list[str]) -> tuple[Options, Recipe]:
    """The options and the recipe; `data=` decides their defaults."""
    named = [a.removeprefix("data=") for a in arguments if a.startswith("data=")]
    defaults = DEFAULTS.get(named[-1] if named else "scenes", DEFAULTS["scenes"])
    options, recipe = parsed(arguments, *defaults)
    return options, recipe


def main(arguments: list[str]) -> None:
    """Train, and write the model and `figures.json`; or print the help."""
    if {"-h", "--help"} & set(arguments):
        print(help_text(__doc__ or "", **DEFAULTS))
        return
    options, recipe = read(arguments)
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
        cpu=options.cpu,
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
    sheets = sheets_of(options, model, recipe, triplets)
    samples = recipe.batch * recipe.accumulate * accelerator.num_processes
    console.print(
        f"{accelerator.num_processes} process(es) on {accelerator.device.type}, "
        f"precision={accelerator.mixed_precision}, {samples} samples an update"
    )

    def log(step: int, seconds: float, losses: dict[str, float]) -> None:
        console.print(f"{loss_line(step, recipe.steps, losses)}  {seconds:.0f} s")
        accelerator.log(losses, step=step)

    def show(unet: UNet2DConditionModel, step: int) -> None:
        assert sheets is not None
        sheet = sheets(unet, step)
        if options.wandb:
            import wandb

            accelerator.log({"validation": wandb.Image(str(sheet))}, step=step)

    unet, figures = train_smartbrush(
        from_text_to_image(model.unet, recipe.coarsest),
        model,
        source,
        recipe,
        work,
        accelerator,
        fingerprint={**start_fingerprint(start, parts), "data": options.data, **of_data},
        save_every=options.save_every,
        on_log=log,
        show=None if sheets is None else show,
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
        scenes = SceneSource(world("cpu"), model, recipe, options.pool)
        return scenes, scenes.fingerprint
    named = {name: str(value) for name, value in asdict(options).items()}
    files = coco_files(named, lambda name: byte_meter(name, console))
    instances = read_instances(*files, options.min_share)
    data = Instances(instances, crops, options.side, recipe)
    captions = shipped_path(options.crop_captions) if options.crop_captions else None
    of = coco_fingerprint(files, captions, len(instances), options.side, options.min_share)
    return CocoSource(data, model, options.workers), of


def sheets_of(
    options: Options, model: TextToImage, recipe: Recipe, triplets: list[Triplet]
) -> ValidationSheets | None:
    """What paints the validation triplets, if there are any."""
    if not triplets:
        return None
    return ValidationSheets(
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
