"""A user's own data set: a folder with `images/`, `masks/` and `prompts.csv`."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from profi.data.manifest import Candidates
from profi.data.masks import mask_rle
from profi.data.pictures import image_number, path_within, read_mask, upright_size
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
    remedy = f"set data.root to a folder with {IMAGES}/, {MASKS}/ and {TABLE}"
    for line, row in table_rows(table, COLUMNS, remedy, optional=ID):
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


def table_rows(
    table: Path, columns: Sequence[str], remedy: str, optional: str = ""
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, values by column) of a CSV file, with outer spaces removed.

    All of `columns` are there and no value of them is empty, nor of the column `optional` where the
    file has it. UserError for any other file; `remedy` ends the line where there is none.
    """
    line = 1
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True, skipinitialspace=True)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                more = f" (and optionally {optional})" if optional else ""
                raise UserError(
                    f"{table} has no column {missing[0]}: its first line must name the columns "
                    f"{','.join(columns)}{more}"
                )
            for row in reader:
                line = reader.line_num
                where = f"{table} line {line}"
                if None in row:
                    raise UserError(f"{where}: more values than columns; quote texts with commas")
                values = {name: (value or "").strip() for name, value in row.items()}
                required = [*columns, optional] if optional in values else columns
                for name in required:
                    if not values[name]:
                        raise UserError(f"{where}: no {name}; fill it in")
                yield line, values
    except FileNotFoundError as error:
        raise UserError(f"{table} does not exist: {remedy}") from error
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
    image = named_file(images, row["image"], where)
    mask_path = named_file(masks, row["mask"], where)
    file_name = image.relative_to(images).as_posix()
    mask_name = mask_path.relative_to(masks).as_posix()
    name = _id_of(row, file_name, mask_name, where)
    return masked_triplet(name, images, file_name, mask_path, row["prompt"], where)


def masked_triplet(
    triplet_id: str, images: Path, file_name: str, mask_path: Path, prompt: str, where: str
) -> Triplet:
    """The triplet of an image below `images` and a mask file of its size.

    A missing image is no error here. UserError, which starts with `where`, for a mask that is
    missing, unreadable, black or of another size than the image.
    """
    try:
        mask = read_mask(mask_path).numpy()
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    height, width = mask.shape
    if not mask.any():
        raise UserError(f"{where}: mask {mask_path} is black: make the part to paint white")
    size = upright_size(images / file_name)
    if size is not None and size != (width, height):
        raise UserError(
            f"{where}: mask {mask_path} is {width}x{height} and image {images / file_name} is "
            f"{size[0]}x{size[1]}; give a mask of the image's size"
        )
    return Triplet(
        triplet_id=triplet_id,
        image_id=image_number(file_name),
        annotation_id=None,
        category_id=None,
        prompt=prompt,
        file_name=file_name,
        height=height,
        width=width,
        hull=(),
        rle=mask_rle(mask),
    )


def named_file(folder: Path, name: str, where: str) -> Path:
    """`folder`/`name`; UserError, which starts with `where`, for a name that leads out of it."""
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
