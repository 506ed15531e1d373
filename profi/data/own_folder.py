"""A user's own data set: a folder with `images/`, `masks/` and `prompts.csv`."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from profi.data.manifest import Candidates
from profi.data.masks import mask_rle
from profi.data.pictures import ORIENTATION, path_within, read_mask
from profi.types import Triplet, UserError, digest

IMAGES, MASKS, TABLE = "images", "masks", "prompts.csv"
COLUMNS = ("image", "mask", "prompt")
ID = "id"
#: What an id may consist of: it appears in tables, pages and logs.
_ID = re.compile(r"[\w.-]{1,100}")


def read_folder(root: Path) -> Candidates:
    """One triplet per row of `root`/prompts.csv, its mask as given.

    The columns `image` and `mask` name files in images/ and masks/. Both have the same size,
    which may be any. White is painted, black is kept. `prompt` says what to paint. An optional
    column `id` names the row. Without it the id is the image's name and a hash of image, mask and
    prompt, so it does not depend on other rows.

    An image that is missing or cannot be read is reported when it is painted, as in any data set.
    Every other mistake in a row is an error here.

    Raises:
        UserError: with the row's line.
    """
    table = root / TABLE
    triplets: list[Triplet] = []
    lines: dict[str, int] = {}
    for line, row in _rows(table):
        where = f"{table} line {line}"
        triplet = _triplet(root, row, where)
        if triplet.triplet_id in lines:
            raise UserError(
                f"{where}: the same id {triplet.triplet_id} as line {lines[triplet.triplet_id]}; "
                f"delete one or give different ids in a column {ID}"
            )
        lines[triplet.triplet_id] = line
        triplets.append(triplet)
    if not triplets:
        raise UserError(f"{table} has no rows: add one per picture ({','.join(COLUMNS)})")
    return Candidates(tuple(triplets), {})


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, values by column) with outer spaces removed; no required value is empty."""
    line = 1
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True, skipinitialspace=True)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(
                    f"{table} has no column {missing[0]}: its first line must name the columns "
                    f"{','.join(COLUMNS)} (and optionally {ID})"
                )
            for row in reader:
                line = reader.line_num
                where = f"{table} line {line}"
                if None in row:
                    raise UserError(f"{where}: more values than columns; quote texts with commas")
                values = {name: (value or "").strip() for name, value in row.items()}
                required = [*COLUMNS, ID] if ID in values else COLUMNS
                for name in required:
                    if not values[name]:
                        raise UserError(f"{where}: no {name}; fill it in")
                yield line, values
    except FileNotFoundError as error:
        raise UserError(
            f"{table} does not exist: set data.root to a folder with {IMAGES}/, {MASKS}/ "
            f"and {TABLE}"
        ) from error
    except csv.Error as error:
        raise UserError(
            f"{table} cannot be read after line {line} ({error}): "
            'quote whole values, and write " within one as ""'
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{table} cannot be read ({reason}): save it as UTF-8 CSV") from error


def _triplet(root: Path, row: dict[str, str], where: str) -> Triplet:
    images, masks = root / IMAGES, root / MASKS
    image = _within(images, row["image"], where)
    mask_path = _within(masks, row["mask"], where)
    try:
        mask = read_mask(mask_path).numpy()
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    height, width = mask.shape
    if not mask.any():
        raise UserError(f"{where}: mask {mask_path} is black: make the part to paint white")
    size = _upright_size(image)
    if size is not None and size != (width, height):
        raise UserError(
            f"{where}: mask {mask_path} is {width}x{height} and image {image} is "
            f"{size[0]}x{size[1]}; give a mask of the image's size"
        )
    file_name = image.relative_to(images).as_posix()
    mask_name = mask_path.relative_to(masks).as_posix()
    return Triplet(
        triplet_id=_id_of(row, file_name, mask_name, where),
        image_id=_number(file_name),
        annotation_id=None,
        category_id=None,
        prompt=row["prompt"],
        file_name=file_name,
        height=height,
        width=width,
        hull=(),
        rle=mask_rle(mask),
    )


def _within(folder: Path, name: str, where: str) -> Path:
    path = path_within(folder, name)
    if path is None:
        raise UserError(f"{where}: {name!r} leads out of {folder}; name a file in it")
    return path


def _id_of(row: dict[str, str], image: str, mask: str, where: str) -> str:
    if ID not in row:
        stem = re.sub(r"[^\w.-]+", "_", Path(image).stem)[:60]
        return f"{stem}-{digest([image, mask, row['prompt']], 12)}"
    if not _ID.fullmatch(row[ID]):
        raise UserError(
            f"{where}: id {row[ID]!r} is not allowed; use up to 100 letters, digits, '.', '_' "
            "and '-'"
        )
    return row[ID]


def _number(file_name: str) -> int:
    """An image's number, a hash of its name: triplets of one image are grouped by it."""
    return int.from_bytes(hashlib.sha256(file_name.encode()).digest()[:6], "big")


def _upright_size(path: Path) -> tuple[int, int] | None:
    """(width, height) as a viewer shows it, from the file's header; None if it is unreadable."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            # The tags 5 to 8 are quarter turns.
            turned = image.getexif().get(ORIENTATION, 1) >= 5
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError):
        return None
    return (height, width) if turned else (width, height)
