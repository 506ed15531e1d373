"""The command line of scripts/train_smartbrush.py: options, and the recipe's settings."""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

from profi.training.recipe import Recipe
from profi.training.scenes import MINI
from profi.types import UserError


def _option(default: Any, told: str, *choices: str, at_least: float | None = None) -> Any:
    """A field; `told` is its line of help."""
    return field(default=default, metadata={"told": told, "choices": choices, "at_least": at_least})


@dataclass(frozen=True)
class Options:
    """What a training is given beside its recipe; `Options.read` sets what hangs on `data`."""

    data: str = _option("scenes", "where samples come from", "scenes", "coco")
    work: str = _option("outputs/smartbrush", "the folder of checkpoints, losses, pictures, model")
    model: str = _option("", "to start from: a folder in the diffusers layout or a Hub id")
    parts: str = _option("", "where the VAE and the text encoder lie, if not in `model`")
    precision: str = _option("", "empty: as accelerate is told", "", "no", "bf16", "fp16")
    cpu: str = _option("no", "yes: no GPU, even if there is one", "no", "yes")
    save_every: int = _option(1000, "updates between two checkpoints", at_least=1)
    show_every: int = _option(1000, "updates between two sheets of pictures", at_least=1)
    pictures: int = _option(8, "validation triplets on a sheet; 0: no sheets", at_least=0)
    val_root: str = _option("", "the validation pictures' folder; empty: no sheets")
    val_annotations: str = _option("", "their instances file")
    wandb: str = _option("", "a W&B project")
    side: int = _option(512, "of the training's and the sheets' pictures, in pixels", at_least=1)
    pool: int = _option(8192, "data=scenes: scenes that are composed at once", at_least=1)
    cache: str = _option("", "data=coco: where train2017 is fetched to; empty: the user's cache")
    root: str = _option("", "data=coco: a train2017 of your own")
    annotations: str = _option("", "data=coco: its instances file")
    image_captions: str = _option("", "data=coco: its captions file")
    crop_captions: str = _option("", "data=coco: what scripts/caption_crops.py wrote")
    min_share: float = _option(
        0.02, "data=coco: share of a picture that an object's box must cover", at_least=0
    )
    workers: int = _option(4, "data=coco: processes that read pictures", at_least=0)

    @staticmethod
    def read(arguments: Sequence[str]) -> tuple[Options, Recipe]:
        """The options and the recipe that `name=value` arguments give.

        Raises:
            UserError: it names the argument that is none, or whose value cannot be.
        """
        specs = {spec.name: spec for spec in fields(Options)}
        given = {a.partition("=")[0]: a.partition("=")[2] for a in arguments if "=" in a}
        data = given.get("data", Options.data)
        values: dict[str, Any] = dict(DEFAULTS.get(data, {}))
        for name, text in given.items():
            if name in specs:
                values[name] = _read(specs[name], text)
        settings = [a for a in arguments if a.partition("=")[0] not in specs or "=" not in a]
        options = Options(**values)
        options._check()
        return options, RECIPES[data].changed(settings)

    def _check(self) -> None:
        """UserError for options that cannot go together or are missing."""
        if not self.work:
            raise UserError("work=: name a folder")
        if self.pictures and bool(self.val_root) != bool(self.val_annotations):
            raise UserError("val_root=... and val_annotations=... go together: give both or none")
        if self.wandb and importlib.util.find_spec("wandb") is None:
            raise UserError("wandb is not installed: pip install 'profi[wandb]'")


DEFAULTS: dict[str, dict[str, Any]] = {
    "scenes": {
        "model": "shipped:cpu/t2i",
        "parts": "shipped:cpu/inpaint",
        "val_root": "shipped:cpu/data/images",
        "val_annotations": "shipped:cpu/data/instances_val.json",
        "side": 64,
    },
    "coco": {"model": "Lykon/dreamshaper-8"},
}
RECIPES = {"scenes": MINI, "coco": Recipe()}


def _read(spec: Field[Any], text: str) -> Any:
    choices, least = spec.metadata["choices"], spec.metadata["at_least"]
    if choices and text not in choices:
        names = " or ".join(choice for choice in choices if choice)
        raise UserError(f"{spec.name}={text}: choose {names}")
    if least is None:
        return text
    kind: Any = type(spec.default)
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        what = "whole number" if kind is int else "number"
        raise UserError(f"{spec.name}={text}: must be a {what} of at least {least:g}")
    return value


def help_text(about: str) -> str:
    """What `--help` prints: `about`, every option, every setting and their defaults."""
    lines = [about.strip(), "", "Options:"]
    for spec in fields(Options):
        of = {data: values.get(spec.name, spec.default) for data, values in DEFAULTS.items()}
        same = len(set(of.values())) == 1
        default = str(spec.default) if same else ", ".join(f"{d}: {v}" for d, v in of.items())
        choices = " or ".join(choice for choice in spec.metadata["choices"] if choice)
        notes = [text for text in (choices, default and f"default {default}") if text]
        after = f" ({'; '.join(notes)})" if notes else ""
        lines.append(f"  {spec.name}=  {spec.metadata['told']}{after}")
    lines += ["", "Settings of the recipe:", *inspect.getdoc(Recipe).splitlines()[1:]]  # type: ignore[union-attr]
    for data, recipe in RECIPES.items():
        values = [f"{spec.name}={_written(getattr(recipe, spec.name))}" for spec in fields(Recipe)]
        lines += ["", f"Defaults of data={data}: {' '.join(values)}"]
    return "\n".join(lines)


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
