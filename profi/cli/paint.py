"""One picture from the command line: `python -m profi IMAGE MASK PROMPT -o OUT`.

Nothing heavy is imported before the arguments are accepted, so that a mistake costs no wait.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

from profi.atomic import whole_file
from profi.catalogue import catalogue
from profi.settings import (
    DEFAULT_READING,
    EVALUATIONS,
    MAX_SEED,
    READINGS,
    ModelConfig,
    Sampling,
    check_device,
    choices_of,
)
from profi.settings.presets import DEMO_NEGATIVE, DEMO_POSITIVE, model_source, models
from profi.types import UserError

REFUSED = 2
INTERRUPTED = 130
# What a file's name ends in -> how PIL writes it. Only JPEG loses something.
FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    ".webp": {"format": "WEBP", "lossless": True},
    ".tif": {"format": "TIFF"},
    ".tiff": {"format": "TIFF"},
    ".bmp": {"format": "BMP"},
    ".jpg": {"format": "JPEG", "quality": 95},
    ".jpeg": {"format": "JPEG", "quality": 95},
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, like all that is refused here."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    made = _Parser(
        prog="python -m profi",
        description="Paint a text into the masked part of a picture.",
        epilog=f"models: {', '.join(models())}, a folder in the diffusers layout or a repository of "
        "the Hugging Face Hub (owner/name)",
        allow_abbrev=False,
    )
    add = made.add_argument
    add("image", metavar="IMAGE", type=Path, help="any size; PNG, JPEG, ...")
    add("mask", metavar="MASK", type=Path, help="of the image's size; white is painted")
    add("prompt", metavar="PROMPT", help='what to paint: "a vase"')
    add(
        "-o",
        "--out",
        metavar="OUT",
        type=Path,
        required=True,
        help=f"the picture, in the image's size; {', '.join(FORMATS)}",
    )
    add("--model", default="mini", help="default: mini, which ships with the package")
    add(
        "--ablation",
        default="profi",
        choices=[*catalogue.methods.names(), *catalogue.methods.aliases],
    )
    add("--reading", default=DEFAULT_READING, choices=list(READINGS))
    add(
        "--evaluation",
        default="ours",
        choices=list(EVALUATIONS),
        help="how the picture and the mask are fitted to the model; default: ours",
    )
    add("--seed", type=_number(int, 0, MAX_SEED), default=0, help="default: 0")
    add(
        "--steps",
        type=_number(int, 1, 1000),
        default=Sampling.num_inference_steps,
        help="default: %(default)s",
    )
    add(
        "--guidance-scale",
        type=_number(float, 0.0, math.inf),
        default=Sampling.guidance_scale,
        help="default: %(default)s",
    )
    add(
        "--long-side",
        type=_number(int, 8, math.inf),
        help="at which to paint; default: the model's",
    )
    add("--positive", default="", help="appended to the prompt")
    add("--negative", default="", help="what not to paint")
    add(
        "--demo-texts",
        action="store_true",
        help="the --positive and --negative of the authors' released demo",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--dtype", default="float32", choices=choices_of(ModelConfig, "dtype"))
    add("--unblended", action="store_true", help="do not put the image back outside the mask")
    add("--force", action="store_true", help="overwrite OUT")
    return made


def _number(kind: Callable[[str], float], least: float, most: float) -> Callable[[str], float]:
    """An argument's type: a finite number from `least` to `most`."""

    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        # Written so that a NaN is refused too.
        if not (least <= value <= most and math.isfinite(value)):
            limit = f"from {least:g} to {most}" if math.isfinite(most) else f"of at least {least:g}"
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {what} {limit}")
        return value

    return number


def accepted(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments; UserError for what can be seen to be wrong without loading anything."""
    args = parser().parse_args(arguments)
    for path in (args.image, args.mask):
        if not path.is_file():
            raise UserError(f"{path} {'is no file' if path.exists() else 'does not exist'}")
    check_out(args.out, args.force)
    check_device("--device", args.device)
    model_source(args.model)
    if not args.prompt.strip() and args.ablation != "base":
        raise UserError("the prompt is empty: say what to paint, or use --ablation base")
    if args.demo_texts:
        if args.positive or args.negative:
            raise UserError("--demo-texts sets --positive and --negative; leave them out")
        args.positive, args.negative = DEMO_POSITIVE, DEMO_NEGATIVE
    return args


def check_out(out: Path, force: bool) -> None:
    """UserError where the picture could not be written, or would take another file's place."""
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


def paint(args: argparse.Namespace) -> None:
    """Paint and write the picture."""
    # torch comes in here, diffusers and transformers below.
    from profi.data.user_images import read_pair

    image, mask = read_pair(args.image, args.mask)

    from profi.cli.libraries import hush_libraries
    from profi.painter import load

    hush_libraries()
    picture = load(args.model, args.device, args.dtype)(
        image,
        mask,
        args.prompt,
        seed=args.seed,
        ablation=args.ablation,
        reading=args.reading,
        evaluation=args.evaluation,
        steps=args.steps,
        guidance_scale=args.guidance_scale,
        positive=args.positive,
        negative=args.negative,
        long_side=args.long_side,
        blended=not args.unblended,
        progress=True,
    )
    written = BytesIO()
    picture.save(written, **FORMATS[args.out.suffix.lower()])
    # Once more: painting takes a while.
    check_out(args.out, args.force)
    with whole_file(args.out) as file:
        file.write(written.getvalue())


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, 2 for a mistake (told in one line), 130 when interrupted."""
    try:
        paint(accepted(sys.argv[1:] if arguments is None else arguments))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return REFUSED
    except OSError as error:
        # A full disk, a lost permission: of the machine, not of the program.
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"error: {where}{' '.join(str(error.strerror or error).split())}\n")
        return REFUSED
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: nothing was written\n")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
