"""What the tests of the painter's server and of its studio share: small orders and a tiny model."""

from __future__ import annotations

from typing import Any

from hostile_files import encoded, picture
from PIL import Image, ImageDraw

from profi.painter import Painter
from profi.ui.painter.orders import Order
from profi.ui.painter.picture_store import Limits, PictureStore
from profi.ui.painter.settings import Settings
from profi.ui.painter.studio import Studio

SIZE = (48, 40)


def hole() -> Image.Image:
    mask = Image.new("L", SIZE)
    ImageDraw.Draw(mask).ellipse((10, 8, 30, 30), fill=255)
    return mask


def studio_of(painter: Painter, **options: Any) -> Studio:
    """A studio whose model is a tiny random one."""
    studio = Studio(PictureStore(Limits(pixels=100_000, file_bytes=1 << 20)), **options)
    studio._loaded = "mini", painter
    return studio


def order_in(studio: Studio, steps: int = 4, **settings: Any) -> Order:
    one = studio.store.put(encoded(picture(*SIZE), "PNG"), "image/png")
    mask = studio.store.put(encoded(hole(), "PNG"), "image/png")
    return Order(one, mask, Settings("cat", steps=steps, **settings))
