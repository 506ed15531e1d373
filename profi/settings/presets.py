"""The known models by name, and the texts of the released demo.

This module does not import torch, so a mistyped name fails at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import yaml

from profi.catalogue import catalogue
from profi.settings.fields import build
from profi.settings.model import ModelConfig
from profi.settings.paths import conf_folder, shipped_path
from profi.types import UserError

# The released demo's suffix of every prompt, and its negative prompt.
DEMO_POSITIVE = "Full HD, 4K, high quality, high resolution"
DEMO_NEGATIVE = (
    "text, bad anatomy, bad proportions, blurry, cropped, deformed, disfigured, duplicate, error, "
    "extra limbs, gross proportions, jpeg artifacts, long neck, low quality, lowres, malformed, "
    "morbid, mutated, mutilated, out of frame, ugly, worst quality"
)


@cache
def models() -> Mapping[str, ModelConfig]:
    """The models that `profi.load` knows by name: those in conf/model/ that have ablations."""
    found = {}
    # The shipped model comes first.
    paths = sorted(
        (conf_folder() / "model").glob("*.yaml"), key=lambda path: (path.stem != "mini", path.stem)
    )
    for path in paths:
        model: ModelConfig = build(ModelConfig, yaml.safe_load(path.read_text("utf-8")))
        if catalogue.inpainters.get(model.inpainter).ablated:
            found[path.stem] = model
    return MappingProxyType(found)


_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def hub_id(text: str) -> str | None:
    """The text, if it is the id of a Hub repository and not a local folder; else None."""
    return text if _REPOSITORY.fullmatch(text) and not Path(text).is_dir() else None


def model_source(name: str | Path) -> str:
    """The folder or Hub id of a model, from a key of `models()`, a local folder or a Hub id.

    The network is not used. Raises UserError for any other name.
    """
    text = str(name)
    if text in models():
        known = models()[text]
        return str(shipped_path(known.path)) if known.path is not None else known.id
    try:
        folder = Path(text).expanduser()
    except RuntimeError:
        folder = Path(text)  # A path ~NAME with an unknown user name.
    if text and folder.is_dir():
        return str(folder)
    if hub_id(text) is None:
        raise UserError(
            f"model {text!r} is unknown: choose {', '.join(models())}, a local folder in the "
            "diffusers layout or a repository of the Hugging Face Hub (owner/name)"
        )
    return text
