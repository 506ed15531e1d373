"""A painted picture as the bytes of a file, with what its original carried."""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin
from torch import Tensor

from profi.data.pictures import in_srgb

#: PNG's text chunks with the settings and with the mask (a PNG in base64).
TEXT = "profi"
MASK_TEXT = "profi-mask"
WITH_ALPHA = ("PNG", "WEBP", "TIFF")
#: Bytes: a segment of a JPEG has two for its length, and EXIF begins with six letters.
MAX_JPEG_EXIF = 65_527

log = logging.getLogger(__name__)


def encoded(
    painted: Image.Image,
    original: Image.Image,
    mask: Tensor | None,
    facts: Mapping[str, Any],
    options: Mapping[str, Any],
    painted_mask: Tensor | None = None,
) -> bytes:
    """`painted` (RGB) in the format of `options`, which are PIL's arguments for writing.

    EXIF (upright) and resolution are those of the original. With a mask [H, W] its transparency is
    kept outside of the mask, with the colours under it, if the format has transparency. A PNG holds
    `facts` as JSON in the text `profi`, and `painted_mask` [H, W] in the text `profi-mask`.
    """
    picture = painted
    if mask is not None and original.has_transparency_data and options["format"] in WITH_ALPHA:
        layer = np.array(in_srgb(original).convert("RGBA"))
        hole = mask.numpy()
        layer[hole] = np.dstack([np.asarray(painted), np.full(hole.shape, 255, np.uint8)])[hole]
        picture = Image.fromarray(layer)
    more: dict[str, Any] = {}
    exif = _exif_bytes(original, options["format"])
    if exif:
        more["exif"] = exif
    if "dpi" in original.info:
        more["dpi"] = tuple(float(value) for value in original.info["dpi"])
    if options["format"] == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt(TEXT, json.dumps(facts, ensure_ascii=False))
        if painted_mask is not None:
            text.add_text(MASK_TEXT, base64.b64encode(one_bit_png(painted_mask)).decode())
        more["pnginfo"] = text
    file = BytesIO()
    picture.save(file, **options, **more)
    return file.getvalue()


def _exif_bytes(original: Image.Image, kind: str) -> bytes:
    """The EXIF as the format takes it; none if it cannot be read or written."""
    try:
        exif = original.getexif()
        found = exif.tobytes() if exif and kind != "BMP" else b""
    # PIL reports damaged EXIF by errors of many kinds; the painted picture is worth more.
    except Exception:  # noqa: BLE001
        log.warning("the picture's EXIF is damaged: it is left out")
        return b""
    if kind == "JPEG" and len(found) > MAX_JPEG_EXIF:
        log.warning("the picture's EXIF is too long for a JPEG: it is left out")
        return b""
    return found


def one_bit_png(mask: Tensor) -> bytes:
    """A mask [H, W] bool as a PNG of one bit per pixel, white where it is True."""
    file = BytesIO()
    Image.fromarray(mask.numpy()).save(file, format="PNG")
    return file.getvalue()


def texts_of(picture: Image.Image) -> tuple[str | None, bytes | None]:
    """The texts that `encoded` wrote into a PNG: (the facts' JSON, the mask's PNG); None: none."""
    facts, mask = picture.info.get(TEXT), picture.info.get(MASK_TEXT)
    try:
        png = base64.b64decode(mask, validate=True) if isinstance(mask, str) else None
    except (binascii.Error, ValueError):
        png = None
    return (str(facts) if isinstance(facts, str) else None), png
