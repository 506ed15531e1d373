"""Render the sprites of the embedded world from two published emoji sets.

    npm pack (two packages) -> 80 px RGBA -> profi/mini/sprites/sprites.png + sprites.json

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
FLUENT = (
    "@lobehub/fluent-emoji-3d@1.1.0",
    "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
)
NOTO = (
    "@iconify-json/noto@1.2.9",
    "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
)

# category -> (sprites of the training scenes, sprites kept for the validation scenes).
# Codes are Fluent's code points, words are Noto's names. A category with fewer than three
# sprites shares them between training and validation. What is kept for validation differs in
# drawing but not in kind: no colour that its category has nowhere in training.
CATALOGUE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "airplane": (("2708-fe0f", "airplane"), ("1f6e9-fe0f",)),
    "apple": (("1f34e", "1f34f", "green-apple"), ("red-apple",)),
    "banana": (("1f34c", "banana"), ()),
    "bear": (("1f43b", "bear"), ()),
    "bicycle": (("1f6b2", "bicycle"), ()),
    "bird": (("1f424", "1f425", "front-facing-baby-chick"), ("baby-chick",)),
    "boat": (("26f5", "sailboat"), ()),
    "book": (
        ("1f4d5", "1f4d7", "1f4d8", "1f4d9", "closed-book", "green-book"),
        ("blue-book",),
    ),
    "broccoli": (("1f966", "broccoli"), ()),
    "bus": (("1f68c", "1f68e", "trolleybus"), ("bus",)),
    "cake": (("1f370", "shortcake"), ()),
    "car": (("1f697", "1f699", "sport-utility-vehicle"), ("automobile",)),
    "carrot": (("1f955", "carrot"), ()),
    "cat": (("1f431", "cat-face"), ("grinning-cat",)),
    "chair": (("1fa91", "chair"), ()),
    "clock": (
        ("1f550", "1f552", "1f554", "1f556", "two-oclock", "six-oclock"),
        ("1f558", "1f55b", "nine-oclock"),
    ),
    "cup": (("2615", "hot-beverage"), ()),
    "dog": (("1f436", "dog-face"), ()),
    "donut": (("1f369", "doughnut"), ()),
    "elephant": (("1f418", "elephant"), ()),
    "giraffe": (("1f992", "giraffe"), ()),
    "horse": (("1f40e", "horse"), ()),
    "motorcycle": (("1f3cd-fe0f", "motorcycle"), ()),
    "orange": (("1f34a", "tangerine"), ()),
    "pizza": (("1f355", "pizza"), ()),
    "potted plant": (("1fab4", "potted-plant"), ()),
    "sports ball": (("26bd", "soccer-ball", "1f3d0"), ("volleyball",)),
    "stop sign": (("1f6d1", "stop-sign"), ()),
    "teddy bear": (("1f9f8", "teddy-bear"), ()),
    "train": (("1f686", "train"), ()),
    "umbrella": (("2602-fe0f", "umbrella"), ("2614",)),
    "zebra": (("1f993", "zebra"), ()),
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
        fluent = fetch(*FLUENT, Path(name))
        noto_file = fetch(*NOTO, Path(name)).extractfile("package/icons.json")
        assert noto_file is not None
        noto = json.load(noto_file)

        def render(code: str) -> Image.Image:
            if code[0].isdigit():
                member = fluent.extractfile(f"package/assets/{code}.webp")
                assert member is not None
                return tight(Image.open(io.BytesIO(member.read())))
            body = noto["icons"][code]["body"]
            svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128">{body}</svg>'
            png = resvg_py.svg_to_bytes(svg_string=svg, width=256, height=256)
            return tight(Image.open(io.BytesIO(bytes(png))))

        index, tiles = [], []
        for category, (training, validation) in CATALOGUE.items():
            kinds = [(code, "both" if not validation else "train") for code in training]
            for code, split in kinds + [(code, "val") for code in validation]:
                tiles.append(render(code))
                index.append({"category": category, "source": code, "split": split})
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
