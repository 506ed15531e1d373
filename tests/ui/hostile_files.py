"""Files that nobody should send: name -> bytes."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, format=kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


def picture(width: int = 48, height: int = 40, mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, body: bytes, more: bytes = b"") -> bytes:
    """A PNG of 8-bit greys whose header says `width` x `height`, whatever its body holds."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + header + more + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """`count` zero bytes."""
    return bytes(count)


def hostile_files() -> dict[str, bytes]:
    """Fifty of them."""
    whole = {kind: encoded(picture(), kind) for kind in ("PNG", "JPEG", "WEBP")}
    found: dict[str, bytes] = {"empty": b"", "one byte": b"\x89", "zeros": zeros(4096)}
    for kind, data in whole.items():
        for share in (0.1, 0.5, 0.9):
            if kind == "JPEG" and share > 0.5:
                continue  # a JPEG that lacks its last rows is still one: PIL tells in `load`
            found[f"{kind} cut at {share}"] = data[: int(len(data) * share)]
        found[f"{kind} signature alone"] = data[:12]
    for kind in ("GIF", "BMP", "TIFF", "ICO", "PPM", "TGA", "PDF", "EPS", "JPEG2000"):
        try:
            found[f"a {kind}"] = encoded(picture(32, 32), kind)
        except (KeyError, OSError):
            found[f"a {kind}"] = kind.encode() * 100
    script = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    found |= {
        "SVG with a script": script,
        "SVG after a declaration": b"<?xml version='1.0'?>" + script,
        "HTML": b"<!doctype html><script>alert(1)</script>",
        "a page's text": b"hello" * 1000,
        "JSON": b'{"picture": "../../etc/passwd"}',
        "a zip": b"PK\x03\x04" + zeros(200),
        "a gzip bomb": zlib.compress(zeros(50_000_000)),
        "an executable": b"\x7fELF" + zeros(500),
        "a pickle": b"\x80\x04\x95" + zeros(100) + b".",
        "a path": b"../../../../etc/passwd",
        "a URL": b"http://127.0.0.1:1/picture.png",
        "bomb of 10 gigapixels": png(100_000, 100_000, zeros(1000)),
        "bomb that inflates": png(60_000, 60_000, zeros(40_000_000)),
        "just too many pixels": png(4097, 4097, zeros(4097 * 4098)),
        "a long line": png(1_000_000, 8, zeros(8 * 1_000_001)),
        "one pixel": encoded(picture(1, 1), "PNG"),
        "a thin line": encoded(picture(2000, 1), "PNG"),
        "no pixels": png(0, 0, b""),
        "negative size": png(2**31 + 5, 2**31 + 5, b""),
        "wrong checksum": whole["PNG"][:40] + b"\xff\xff" + whole["PNG"][42:],
        "less data than the header says": png(2000, 2000, zeros(100)),
        "text bomb": png(64, 64, zeros(64 * 65), chunk(b"zTXt", b"profi\0\0" + bomb())),
        "profile bomb": png(64, 64, zeros(64 * 65), chunk(b"iCCP", b"icc\0\0" + bomb())),
        "JPEG of a wrong size": whole["JPEG"].replace(b"\x00\x28\x00\x30", b"\xff\xff\xff\xff"),
        "WebP of a wrong length": whole["WEBP"][:4] + b"\xff\xff\xff\x7f" + whole["WEBP"][8:40],
        "PNG turned around": whole["PNG"][::-1],
        "floats": encoded(picture(32, 32, "L").convert("F"), "TIFF"),
    }
    return found


def bomb() -> bytes:
    """200 MB of zeros, compressed."""
    return zlib.compress(zeros(200_000_000))
