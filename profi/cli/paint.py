"""`profi paint IMAGE MASK PROMPT -o OUT`: one picture from the command line.

The arguments are checked before torch is imported, so that a mistake is reported at once.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from profi.atomic import whole_file
from profi.catalogue import catalogue
from profi.cli.options import FILE, Number, run_command, shown
from profi.settings import (
    DEFAULT_READING,
    EVALUATIONS,
    READINGS,
    ModelConfig,
    Sampling,
    check_device,
    choices_of,
)
from profi.settings.highres import FACTOR, HIGHRES, UPSCALERS, HighRes, highres_of, upscaler_source
from profi.settings.paths import SHIPPED, shipped_path
from profi.settings.presets import DEMO_NEGATIVE, DEMO_POSITIVE, hub_id, model_source, models
from profi.types import MAX_SEED, UserError, check_text

# File suffix -> PIL's arguments for writing. Only JPEG is lossy.
FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    ".webp": {"format": "WEBP", "lossless": True},
    ".tif": {"format": "TIFF"},
    ".tiff": {"format": "TIFF"},
    ".bmp": {"format": "BMP"},
    ".jpg": {"format": "JPEG", "quality": 95},
    ".jpeg": {"format": "JPEG", "quality": 95},
}


def about_mini() -> str:
    """What the embedded model can paint, after a picture of it."""
    annotations = shipped_path(f"{SHIPPED}cpu/data/instances_val.json")
    names = [one["name"] for one in json.loads(annotations.read_text("utf-8"))["categories"]]
    others = ", ".join(name for name in models() if name != "mini")
    return (
        f"the model mini knows only its own small pictures, of {', '.join(names)}; for a photo "
        f"choose another --model: {others}, or a folder"
    )


METHODS = click.Choice([*catalogue.methods.names(), *catalogue.methods.aliases])


@click.command(context_settings={"max_content_width": 100})
@click.argument("image", type=FILE, metavar="IMAGE")
@click.argument("mask", type=FILE, metavar="MASK")
@click.argument("prompt", metavar="PROMPT")
@click.option(
    "-o",
    "--out",
    type=FILE,
    required=True,
    help=f"the picture, in the image's size: {', '.join(FORMATS)}",
)
@shown(
    "--model",
    default="mini",
    help=f"{', '.join(models())}, a folder in the diffusers layout or a repository of the Hugging "
    "Face Hub (owner/name); mini ships with the package",
)
@shown("--ablation", type=METHODS, default="profi")
@shown("--reading", type=click.Choice(list(READINGS)), default=DEFAULT_READING)
@shown(
    "--evaluation",
    type=click.Choice(list(EVALUATIONS)),
    default="ours",
    help="how the picture and the mask are fitted to the model",
)
@shown("--seed", type=Number(int, 0, MAX_SEED), default=0)
@shown("--steps", type=Number(int, 1, 1000), default=Sampling().num_inference_steps)
@shown("--guidance-scale", type=Number(float, 0.0, math.inf), default=Sampling().guidance_scale)
@click.option(
    "--long-side", type=Number(int, 8, math.inf), help="paint at this size; default: the model's"
)
@click.option("--positive", default="", help="appended to the prompt")
@click.option("--negative", default="", help="what not to paint")
@click.option(
    "--demo-texts",
    is_flag=True,
    help="the --positive and --negative of the authors' released demo",
)
@shown("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
@shown("--dtype", type=click.Choice(choices_of(ModelConfig, "dtype")), default="float32")
@click.option(
    "--crop",
    type=Number(int, 0, math.inf),
    metavar="N",
    help="paint only the mask's surroundings, N pixels around it (at least 48 with --highres), "
    "and put them back",
)
@shown("--feather", type=Number(int, 0, math.inf), default=0, help="pixels of a soft edge")
@click.option(
    "--highres",
    is_flag=True,
    help="paint small, enlarge four times with an upscaler that sees the picture, and blend "
    "(docs/highres.md); --long-side is that of the small picture",
)
@shown(
    "--highres-set",
    type=click.Choice(list(HIGHRES)),
    default="ours",
    help="how; released and paper give a picture of the enlarged size",
)
@click.option(
    "--upscaler",
    help=f"{', '.join(UPSCALERS)}, a folder in the diffusers layout or a repository of the Hugging "
    "Face Hub; default: mini with the model mini, else x4",
)
@click.option(
    "--segmenter",
    metavar="SAM",
    help="with --highres: a SAM model in the layout of transformers, a folder or a repository "
    "(facebook/sam-vit-base); the mask is narrowed to the old and the new object",
)
@click.option("--unblended", is_flag=True, help="keep the model's output outside the mask too")
@click.option("--force", is_flag=True, help="overwrite OUT")
def paint(
    image: Path,
    mask: Path,
    prompt: str,
    out: Path,
    model: str,
    ablation: str,
    reading: str,
    evaluation: str,
    seed: int,
    steps: int,
    guidance_scale: float,
    long_side: int | None,
    positive: str,
    negative: str,
    demo_texts: bool,
    device: str,
    dtype: str,
    crop: int | None,
    feather: int,
    highres: bool,
    highres_set: str,
    upscaler: str | None,
    segmenter: str | None,
    unblended: bool,
    force: bool,
) -> None:
    """Paint the text PROMPT into the masked part of a picture.

    MASK has the size of IMAGE; its white part is painted, what is black or transparent is kept.
    """
    for path in (image, mask):
        if not path.is_file():
            raise UserError(f"{path} {'is not a file' if path.exists() else 'does not exist'}")
    check_out(out, force)
    check_device("--device", device)
    model_source(model)
    if not prompt.strip() and ablation != "base":
        raise UserError("the prompt is empty: say what to paint, or use --ablation base")
    for name, text in (("PROMPT", prompt), ("--positive", positive), ("--negative", negative)):
        check_text(name, text)
    positive, negative = texts(positive, negative, demo_texts)
    large = large_settings(highres, highres_set, upscaler, long_side, crop, feather, unblended)
    if segmenter is not None:
        if large is None:
            raise UserError("--segmenter needs --highres")
        if not Path(segmenter).is_dir() and hub_id(segmenter) is None:
            raise UserError(
                f"--segmenter {segmenter}: give a folder or a repository of the Hugging Face Hub, "
                "such as facebook/sam-vit-base"
            )
    # The imports below add diffusers and transformers.
    import torch

    from profi.data.pictures import check_pair, open_picture, read_mask, rgb_tensor

    original, hole = open_picture(image), read_mask(mask)
    given = rgb_tensor(original, image)
    check_pair(given, hole, f"image {image}", f"mask {mask}")
    if not hole.any():
        raise UserError(f"mask {mask} is empty: make the part to paint white")

    from profi.models.devices import silence_libraries
    from profi.painter import load
    from profi.picture_file import encoded

    silence_libraries()
    choices: dict[str, Any] = {
        "seed": seed,
        "ablation": ablation,
        "reading": reading,
        "evaluation": evaluation,
        "steps": steps,
        "guidance_scale": guidance_scale,
        "positive": positive,
        "negative": negative,
    }
    facts: dict[str, Any] = {"prompt": prompt, "model": model, "dtype": dtype}
    painter = load(model, device, dtype)
    kept = None if unblended else hole
    if large is None:
        choices |= {
            "long_side": long_side,
            "crop": crop,
            "feather": feather,
            "blended": not unblended,
        }
        facts |= choices
        picture = painter(given, hole, prompt, **choices, progress=True)
    else:
        import numpy as np

        from profi.fitting import bytes_of
        from profi.highres.latent_masks import box_dilated

        source = upscaler or ("mini" if model == "mini" else "x4")
        facts |= {**choices, "upscaler": source, "highres": asdict(large)}
        if segmenter is not None:
            facts["segmenter"] = segmenter
        picture = painter.highres(
            given,
            hole,
            prompt,
            upscaler=source,
            highres=large,
            segmenter=segmenter,
            progress=True,
            **choices,
        )
        kept = None
        if large.result == "own":
            kept = torch.from_numpy(box_dilated(hole.numpy(), large.margin))
            if segmenter is not None:  # (It has narrowed the mask: what did not change is kept.)
                pixels = bytes_of(given, "rounded").permute(1, 2, 0)
                kept &= (torch.from_numpy(np.array(picture)) != pixels).any(-1)
    written = encoded(picture, original, kept, facts, FORMATS[out.suffix.lower()], hole)
    # Check again: the file may have appeared while the model painted.
    check_out(out, force)
    with whole_file(out) as file:
        file.write(written)
    click.echo(out)
    if model == "mini":
        click.echo(about_mini(), err=True)


def large_settings(
    highres: bool,
    name: str,
    upscaler: str | None,
    long_side: int | None,
    crop: int | None,
    feather: int,
    unblended: bool,
) -> HighRes | None:
    """The settings of `--highres`; None without it. UserError for options that do not go together.

    The upscaler works at four times `--long-side`.
    """
    if not highres:
        if upscaler is not None or name != "ours":
            raise UserError("--upscaler and --highres-set need --highres")
        return None
    if feather or unblended:
        raise UserError("--highres has a blend of its own: leave --feather and --unblended out")
    if upscaler is not None:
        upscaler_source(upscaler)
    worked = None if long_side is None else FACTOR * long_side
    return replace(highres_of(name), long_side=worked, crop=crop)


def texts(positive: str, negative: str, demo: bool) -> tuple[str, str]:
    """(positive, negative): the given texts, or those of the demo."""
    if not demo:
        return positive, negative
    if positive or negative:
        raise UserError("--demo-texts sets --positive and --negative; leave them out")
    return DEMO_POSITIVE, DEMO_NEGATIVE


def check_out(out: Path, force: bool) -> None:
    """UserError if the picture cannot be written, or would overwrite a file without `force`."""
    if out.suffix.lower() not in FORMATS:
        raise UserError(f"{out}: its name must end in one of {', '.join(FORMATS)}")
    if not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}; make it first")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise UserError(f"{out}: the folder {out.parent} cannot be written to; name another one")
    if out.is_dir():
        raise UserError(f"{out} is a folder; name a file")
    if out.exists() and not force:
        raise UserError(f"{out} exists; name another file, or overwrite it with --force")


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m profi`: the exit status of `profi paint`, see `run_command`."""
    return run_command(paint, sys.argv[1:] if arguments is None else arguments, "profi paint")
