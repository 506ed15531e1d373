"""Render the sprites of the embedded world from published emoji sets.

    npm pack (six packages) -> 80 px RGBA -> profi/mini/sprites/sprites.png + sprites.json

Needs `npm` and the extra `scenes` (resvg-py). What it renders ships with the package, with a
NOTICE; the sets themselves do not.

    python scripts/build_sprites.py
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

import resvg_py
from PIL import Image

from profi.mini.world import SPRITES

SIDE = 80
COLUMNS = 16
# The sets: name -> (package, its SHA-256). Fluent's 3D pictures are files by code point; the others
# are SVG bodies by name in one `icons.json`.
SETS = {
    "fluent-3d": (
        "@lobehub/fluent-emoji-3d@1.1.0",
        "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
    ),
    "fluent-flat": (
        "@iconify-json/fluent-emoji-flat@1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    ),
    "noto": (
        "@iconify-json/noto@1.2.9",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
    ),
    "noto-v1": (
        "@iconify-json/noto-v1@1.2.5",
        "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
    ),
    "fxemoji": (
        "@iconify-json/fxemoji@1.2.2",
        "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
    ),
    "twemoji": (
        "@iconify-json/twemoji@1.2.5",
        "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
    ),
}

# category -> (sprites of the training scenes, sprites kept for the validation scenes), each as
# set:name. The categories of the world `cpu` have three and more for training and at least one, of
# another drawing, that training never sees. What is kept for validation differs in drawing but not
# in kind: no colour that its category has nowhere in training. A category of the world `gpu`
# without sprites of its own for validation shares them.
CATALOGUE: dict[str, tuple[str, str]] = {
    "airplane": (
        "fluent-3d:2708-fe0f fluent-flat:airplane noto:airplane noto-v1:airplane "
        "fluent-3d:1f6e9-fe0f",
        "twemoji:airplane",
    ),
    "apple": (
        "fluent-3d:1f34e fluent-3d:1f34f fluent-flat:red-apple fluent-flat:green-apple "
        "noto:green-apple noto-v1:red-apple twemoji:green-apple",
        "noto:red-apple twemoji:red-apple",
    ),
    "banana": (
        "fluent-3d:1f34c fluent-flat:banana noto:banana noto-v1:banana",
        "twemoji:banana",
    ),
    "bear": ("fluent-3d:1f43b noto:bear", ""),
    "bicycle": ("fluent-3d:1f6b2 noto:bicycle", ""),
    "bird": ("fluent-3d:1f424 fluent-3d:1f425 noto:front-facing-baby-chick", "noto:baby-chick"),
    "boat": ("fluent-3d:26f5 noto:sailboat", ""),
    "book": (
        "fluent-3d:1f4d5 fluent-3d:1f4d7 fluent-3d:1f4d8 fluent-3d:1f4d9 noto:closed-book "
        "noto:green-book",
        "noto:blue-book",
    ),
    "broccoli": ("fluent-3d:1f966 noto:broccoli", ""),
    "bus": (
        "fluent-3d:1f68c fluent-3d:1f68e fluent-flat:bus noto:bus noto:trolleybus fxemoji:bus "
        "twemoji:trolleybus",
        "fxemoji:trolleybus twemoji:bus fluent-flat:trolleybus",
    ),
    "cake": ("fluent-3d:1f370 noto:shortcake", ""),
    "car": (
        "fluent-3d:1f697 fluent-3d:1f699 fluent-flat:automobile noto:sport-utility-vehicle "
        "noto-v1:automobile twemoji:sport-utility-vehicle",
        "noto:automobile twemoji:automobile fluent-flat:sport-utility-vehicle",
    ),
    "carrot": ("fluent-3d:1f955 noto:carrot", ""),
    "cat": ("fluent-3d:1f431 noto:cat-face", "noto:grinning-cat"),
    "chair": ("fluent-3d:1fa91 noto:chair", ""),
    "clock": (
        "fluent-3d:1f550 fluent-3d:1f552 fluent-3d:1f554 fluent-3d:1f556 noto:two-oclock "
        "noto:six-oclock twemoji:four-oclock twemoji:eight-oclock noto-v1:ten-oclock",
        "fluent-3d:1f558 fluent-3d:1f55b noto:nine-oclock twemoji:eleven-oclock",
    ),
    "cup": (
        "fluent-3d:2615 fluent-flat:hot-beverage noto:hot-beverage fxemoji:hotbeverage",
        "twemoji:hot-beverage noto-v1:hot-beverage",
    ),
    "dog": ("fluent-3d:1f436 noto:dog-face", ""),
    "donut": (
        "fluent-3d:1f369 fluent-flat:doughnut noto:doughnut noto-v1:doughnut fxemoji:doughnut",
        "twemoji:doughnut",
    ),
    "elephant": (
        "fluent-3d:1f418 fluent-flat:elephant noto:elephant twemoji:elephant",
        "fxemoji:elephant",
    ),
    "giraffe": ("fluent-3d:1f992 noto:giraffe", ""),
    "horse": ("fluent-3d:1f40e noto:horse", ""),
    "motorcycle": ("fluent-3d:1f3cd-fe0f noto:motorcycle", ""),
    "orange": ("fluent-3d:1f34a noto:tangerine", ""),
    "pizza": (
        "fluent-3d:1f355 fluent-flat:pizza noto:pizza noto-v1:pizza fxemoji:sliceofpizza",
        "twemoji:pizza",
    ),
    "potted plant": ("fluent-3d:1fab4 noto:potted-plant", ""),
    "sports ball": ("fluent-3d:26bd noto:soccer-ball fluent-3d:1f3d0", "noto:volleyball"),
    "stop sign": ("fluent-3d:1f6d1 noto:stop-sign", ""),
    "teddy bear": ("fluent-3d:1f9f8 fluent-flat:teddy-bear noto:teddy-bear", "twemoji:teddy-bear"),
    "train": ("fluent-3d:1f686 noto:train", ""),
    "umbrella": (
        "fluent-3d:2602-fe0f fluent-flat:umbrella noto:umbrella noto-v1:umbrella",
        "twemoji:umbrella",
    ),
    "zebra": ("fluent-3d:1f993 noto:zebra", ""),
}


def fetch(package: str, sha256: str, folder: Path) -> tarfile.TarFile:
    """Download a package's archive with npm and check its hash."""
    done = subprocess.run(
        ["npm", "pack", "--silent", package], cwd=folder, check=True, capture_output=True, text=True
    )
    archive = folder / done.stdout.strip().splitlines()[-1]
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != sha256:
        raise SystemExit(f"{package}: sha256 is {found}, expected {sha256}")
    return tarfile.open(archive)


def tight(image: Image.Image) -> Image.Image:
    """Crop to what is drawn, pad to square, resize to SIDE (Lanczos)."""
    image = image.convert("RGBA")
    image = image.crop(image.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox())
    side = max(image.size)
    square = Image.new("RGBA", (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square.convert("RGBa").resize((SIDE, SIDE), Image.Resampling.LANCZOS).convert("RGBA")


def main() -> None:
    """Render every sprite of the catalogue into one sheet and write its index."""
    with tempfile.TemporaryDirectory() as name:
        archives = {key: fetch(*pinned, Path(name)) for key, pinned in SETS.items()}

        def contents(key: str, member: str) -> bytes:
            file = archives[key].extractfile(f"package/{member}")
            assert file is not None
            return file.read()

        icons = {key: json.loads(contents(key, "icons.json")) for key in SETS if key != "fluent-3d"}

        def render(source: str) -> Image.Image:
            key, code = source.split(":")
            if key == "fluent-3d":
                return tight(Image.open(io.BytesIO(contents(key, f"assets/{code}.webp"))))
            width, height = icons[key]["width"], icons[key]["height"]
            body = icons[key]["icons"][code]["body"]
            box = f"0 0 {width} {height}"
            svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">{body}</svg>'
            png = resvg_py.svg_to_bytes(svg_string=svg, width=256, height=256)
            return tight(Image.open(io.BytesIO(bytes(png))))

        index, tiles = [], []
        for category, (training, validation) in CATALOGUE.items():
            kinds = [(source, "train" if validation else "both") for source in training.split()]
            kinds += [(source, "val") for source in validation.split()]
            for source, split in kinds:
                tiles.append(render(source))
                index.append({"category": category, "source": source, "split": split})
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * SIDE, rows * SIDE))
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (i % COLUMNS * SIDE, i // COLUMNS * SIDE))
    SPRITES.mkdir(exist_ok=True)
    sheet.save(SPRITES / "sprites.png", optimize=True)
    (SPRITES / "sprites.json").write_text(
        json.dumps({"side": SIDE, "columns": COLUMNS, "sprites": index}, indent=1) + "\n"
    )
    print(f"{len(tiles)} sprites of {len(CATALOGUE)} categories in {SPRITES}")


if __name__ == "__main__":
    main()
