"""Names for what can be chosen: the known models, and the texts of the released demo.

Light: imports no torch, so that a mistyped name costs nothing.
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

# What the released demo adds to every prompt, and what it puts in place of the empty text.
DEMO_POSITIVE = "Full HD, 4K, high quality, high resolution"
DEMO_NEGATIVE = (
    "text, bad anatomy, bad proportions, blurry, cropped, deformed, disfigured, duplicate, error, "
    "extra limbs, gross proportions, jpeg artifacts, long neck, low quality, lowres, malformed, "
    "morbid, mutated, mutilated, out of frame, ugly, worst quality"
)


@cache
def models() -> Mapping[str, ModelConfig]:
    """The models that `profi.load` knows by name: those of conf/model/ that paint with a method."""
    found = {}
    # The one that ships comes first.
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
    """The text, if it is the id of a Hub repository and no local folder; else None."""
    return text if _REPOSITORY.fullmatch(text) and not Path(text).is_dir() else None


def model_source(name: str | Path) -> str:
    """Where a model is: of a key of `models()`, a local folder or the id of a Hub repository.

    Nothing is asked of the network. Raises UserError for a name that is none of them.
    """
    text = str(name)
    if text in models():
        known = models()[text]
        return str(shipped_path(known.path)) if known.path is not None else known.id
    try:
        folder = Path(text).expanduser()
    except RuntimeError:
        folder = Path(text)  # ~someone whom this machine does not know.
    if text and folder.is_dir():
        return str(folder)
    if hub_id(text) is None:
        raise UserError(
            f"model {text!r} is unknown: choose {', '.join(models())}, a local folder in the "
            "diffusers layout or a repository of the Hugging Face Hub (owner/name)"
        )
    return text
