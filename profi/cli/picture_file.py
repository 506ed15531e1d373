"""A painted picture as the bytes of a file, with what its original carried."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin
from torch import Tensor

from profi.data.pictures import in_srgb

#: PNG's text chunk with the settings.
TEXT = "profi"
WITH_ALPHA = ("PNG", "WEBP", "TIFF")


def encoded(
    painted: Image.Image,
    original: Image.Image,
    mask: Tensor | None,
    facts: Mapping[str, Any],
    options: Mapping[str, Any],
) -> bytes:
    """`painted` (RGB) in the format of `options`, which are PIL's arguments for writing.

    EXIF (upright) and resolution are those of the original. With a mask [H, W] its transparency is
    kept outside of the mask, with the colours under it, if the format has transparency. A PNG holds
    `facts` as JSON in the text `profi`.
    """
    picture = painted
    if mask is not None and original.has_transparency_data and options["format"] in WITH_ALPHA:
        layer = np.array(in_srgb(original).convert("RGBA"))
        hole = mask.numpy()
        layer[hole] = np.dstack([np.asarray(painted), np.full(hole.shape, 255, np.uint8)])[hole]
        picture = Image.fromarray(layer)
    more: dict[str, Any] = {}
    exif = original.getexif()
    if exif and options["format"] != "BMP":
        more["exif"] = exif.tobytes()
    if "dpi" in original.info:
        more["dpi"] = tuple(float(value) for value in original.info["dpi"])
    if options["format"] == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt(TEXT, json.dumps(facts, ensure_ascii=False))
        more["pnginfo"] = text
    file = BytesIO()
    picture.save(file, **options, **more)
    return file.getvalue()
