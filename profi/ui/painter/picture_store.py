"""Pictures from strangers: read with limits before anything is decoded, kept in bounded memory."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from profi.data.pictures import mask_of, upright
from profi.picture_file import one_bit_png
from profi.types import UserError

#: PIL's formats that are read, with their media types; a browser shows all of them.
FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
MAX_SIDE = 16384
MIN_SIDE = 8


@dataclass(frozen=True)
class Limits:
    """Bounds on what others may send and on what is kept of it.

    `file_bytes` and `pixels` are of one picture. `kept_bytes` are of all pictures in memory: beyond
    it the ones that were not used for longest are forgotten, and all after `kept_seconds`.
    """

    file_bytes: int = 32 << 20
    pixels: int = 16_000_000
    kept_bytes: int = 512 << 20
    kept_seconds: float = 7200.0


def decoded(data: bytes, limits: Limits, name: str = "this file") -> Image.Image:
    """The picture in `data`, upright, with what its file says (`info`).

    The header alone decides about format and size; only then pixels are decoded. Raises UserError,
    a sentence with `name`, for everything that is not an intact PNG, JPEG or WebP within `limits`.
    """
    if len(data) > limits.file_bytes:
        raise UserError(f"{name} is too large: at most {limits.file_bytes >> 20} MiB are allowed")
    try:
        with Image.open(BytesIO(data), formats=tuple(FORMATS)) as file:
            width, height = file.size
            if width * height > limits.pixels or max(width, height) > MAX_SIDE:
                raise UserError(
                    f"{name} has {width}x{height} pixels, more than the "
                    f"{limits.pixels / 1e6:g} million that are allowed: scale it down"
                )
            if min(width, height) < MIN_SIDE:
                raise UserError(
                    f"{name} has {width}x{height} pixels: each side needs at least {MIN_SIDE}"
                )
            file.load()
            turned = upright(file)
            # Many telephones' JPEGs hold further pictures, which are not read.
            turned.format = "JPEG" if file.format == "MPO" else file.format
            return turned
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{name} is not a PNG, JPEG or WebP picture") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} has too many pixels: scale it down") from error
    # PIL reports damaged data in many ways; a file of a stranger may cause any of them.
    except Exception as error:
        raise UserError(f"{name} is damaged and cannot be read") from error


def mask_png(image: Image.Image, name: str = "the mask") -> bytes:
    """A mask of any mode as a PNG of one bit per pixel, by the rule of `mask_of`; white = paint."""
    return one_bit_png(mask_of(image, name))


@dataclass(frozen=True)
class Kept:
    """The bytes of a kept file with its media type."""

    data: bytes
    media_type: str


@dataclass
class PictureStore:
    """Files in memory under random names; nothing is written to a disk."""

    limits: Limits = field(default_factory=Limits)
    _kept: OrderedDict[str, tuple[Kept, float]] = field(default_factory=OrderedDict, repr=False)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    # How many pictures of strangers are decoded at a time: it bounds the memory for their pixels.
    _decoding: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(2), repr=False
    )

    def put(self, data: bytes, media_type: str) -> str:
        """Keep a file; its name, which nobody can guess."""
        name = secrets.token_urlsafe(18)
        with self._lock:
            self._kept[name] = Kept(data, media_type), time.monotonic()
            self._bytes += len(data)
            self._forget()
        return name

    def get(self, name: object) -> Kept:
        """A kept file; UserError if there is none of this name (any more)."""
        with self._lock:
            self._forget()
            if not isinstance(name, str) or name not in self._kept:
                raise UserError("this picture is not kept any more: upload it again")
            kept, _ = self._kept[name]
            self._kept[name] = kept, time.monotonic()
            self._kept.move_to_end(name)
            return kept

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Wait for one of the few places in which pixels are decoded."""
        with self._decoding:
            yield

    def image(self, name: object, what: str) -> Image.Image:
        """A kept picture, decoded (see `decoding`); errors mention `what`."""
        data = self.get(name).data
        with self.decoding():
            return decoded(data, self.limits, what)

    @property
    def bytes(self) -> int:
        """Bytes of all kept files."""
        return self._bytes

    def _forget(self) -> None:
        oldest = time.monotonic() - self.limits.kept_seconds
        while self._kept:
            name, (kept, used) = next(iter(self._kept.items()))
            if self._bytes <= self.limits.kept_bytes and used >= oldest:
                return
            del self._kept[name]
            self._bytes -= len(kept.data)
