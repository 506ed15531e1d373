"""Names for what can be chosen: the known models, and the texts of the released demo.

Light: imports no torch, so that a mistyped name costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from profi.settings import SHIPPED, shipped_path
from profi.types import UserError


@dataclass(frozen=True)
class ModelPreset:
    """A known model; `conf/model/` has one file for each, with these values.

    `id` is its Hugging Face repository, or its label where `path` names a folder. Images are
    fitted to `long_side` pixels and padded to a multiple of `pad_multiple`; `batch_size` is how
    many are painted at once.
    """

    id: str
    path: str | None = None
    long_side: int = 512
    pad_multiple: int = 64
    batch_size: int = 4

    @property
    def source(self) -> str:
        """The folder or the repository."""
        return str(shipped_path(self.path)) if self.path is not None else self.id


MODELS: Mapping[str, ModelPreset] = MappingProxyType(
    {
        "mini": ModelPreset("profi-mini", f"{SHIPPED}cpu/inpaint", 64, 16, 32),
        "sd15": ModelPreset("stable-diffusion-v1-5/stable-diffusion-inpainting"),
        "sd2": ModelPreset("sd2-community/stable-diffusion-2-inpainting"),
        "dreamshaper8": ModelPreset("Lykon/dreamshaper-8-inpainting"),
        "sdxl": ModelPreset(
            "diffusers/stable-diffusion-xl-1.0-inpainting-0.1", long_side=1024, batch_size=1
        ),
    }
)

# What the released demo adds to every prompt, and what it puts in place of the empty text.
DEMO_POSITIVE = "Full HD, 4K, high quality, high resolution"
DEMO_NEGATIVE = (
    "text, bad anatomy, bad proportions, blurry, cropped, deformed, disfigured, duplicate, error, "
    "extra limbs, gross proportions, jpeg artifacts, long neck, low quality, lowres, malformed, "
    "morbid, mutated, mutilated, out of frame, ugly, worst quality"
)

_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def hub_id(text: str) -> str | None:
    """The text, if it is the id of a Hub repository and no local folder; else None."""
    return text if _REPOSITORY.fullmatch(text) and not Path(text).is_dir() else None


def model_source(name: str | Path) -> str:
    """Where a model is: of a key of `MODELS`, a local folder or the id of a Hub repository.

    Nothing is asked of the network. Raises UserError for a name that is none of them.
    """
    text = str(name)
    if text in MODELS:
        return MODELS[text].source
    try:
        folder = Path(text).expanduser()
    except RuntimeError:
        folder = Path(text)  # ~someone whom this machine does not know.
    if text and folder.is_dir():
        return str(folder)
    if hub_id(text) is None:
        raise UserError(
            f"model {text!r} is unknown: choose {', '.join(MODELS)}, a local folder in the "
            "diffusers layout or a repository of the Hugging Face Hub (owner/name)"
        )
    return text
