"""The data sets of other inpainting papers in their own layouts: BrushBench and EditBench."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from profi.data.manifest import Candidates
from profi.data.masks import mask_rle
from profi.data.own_folder import masked_triplet, named_file, table_rows
from profi.data.pictures import image_number, upright_size
from profi.settings.data import BrushBenchMask, EditBenchPrompt
from profi.types import Triplet, UserError, check_text, digest

MAPPING = "mapping_file.json"
#: EditBench's halves: annotations_HALF.csv, references_HALF/ and masks_HALF/.
HALVES = ("natural", "generated")
STEM = "aos"
PROMPT_COLUMNS: dict[EditBenchPrompt, str] = {
    "full": "prompt_full",
    "mask_simple": "prompt_mask-simple",
    "mask_rich": "prompt_mask-rich",
}


def read_brushbench(root: Path, kind: BrushBenchMask) -> Candidates:
    """One triplet per entry of `root`/mapping_file.json (BrushNet, arXiv 2403.06976).

    The file is an object: a key per picture, whose value has `image` (a path below `root`),
    `caption` (of the whole picture; the prompt) and the masks `inpainting_mask` and
    `outpainting_mask`; see `runs_mask`. Entries keep the file's order; a key is a triplet's id.

    Raises:
        UserError: with the entry's key. An image that is missing or unreadable is an error too,
            because only the image has the size of its mask.
    """
    path = root / MAPPING
    try:
        content = json.loads(path.read_text("utf-8"), object_pairs_hook=_unique)
    except FileNotFoundError as error:
        remedy = "set data.root to BrushBench's folder, which has this file"
        raise UserError(f"{path} does not exist: {remedy}") from error
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path} cannot be read as JSON ({reason}): fetch it again") from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path} is not an object with an entry per picture: fetch it again")
    return Candidates(tuple(_entry(root, k, row, kind) for k, row in content.items()), {})


def _entry(root: Path, key: str, row: Any, kind: BrushBenchMask) -> Triplet:
    where = f"{root / MAPPING}: entry {key[:60]!r}"
    name = f"{kind}_mask"
    for field in ("image", "caption", name):
        value = row.get(field) if isinstance(row, dict) else None
        value = value.strip() if isinstance(value, str) else value
        if not isinstance(value, list if field == name else str) or not value:
            raise UserError(f"{where} has no {field}: fetch the file again")
    for field in ("image", "caption"):
        check_text(f"{where}: {field}", row[field])
    image = named_file(root, row["image"], where)
    size = upright_size(image)
    if size is None:
        raise UserError(f"{where}: {image} is missing or is no image: complete data.root")
    mask = runs_mask(row[name], size[1], size[0], f"{where}: {name}")
    file_name = image.relative_to(root).as_posix()
    return Triplet(
        triplet_id=_id(key),
        image_id=image_number(file_name),
        annotation_id=None,
        category_id=None,
        prompt=row["caption"].strip(),
        file_name=file_name,
        height=size[1],
        width=size[0],
        hull=(),
        rle=mask_rle(mask),
    )


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON file; ValueError if a key is there twice (json takes the last)."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:60]!r} is there twice")
    return found


def runs_mask(runs: Sequence[Any], height: int, width: int, where: str) -> np.ndarray:
    """A mask [height, width] bool from BrushBench's runs: start, length, start, length, ...

    Pixels are counted from 1, row by row (MSCOCO's run lengths go column by column); a run is what
    is painted. UserError, which starts with `where`, for anything else: an odd number of values,
    values that are no whole numbers, a run that leaves the picture, runs that overlap, no run.
    """
    # bool is a kind of int.
    if not all(type(value) is int for value in runs):
        raise UserError(f"{where} has values that are not whole numbers: fetch the file again")
    if len(runs) % 2:
        raise UserError(
            f"{where} has {len(runs)} values, an odd number: it must be start, length, start, ..."
        )
    pairs = sorted(zip(runs[::2], runs[1::2], strict=True))
    for start, length in pairs:
        if start < 1 or length < 1 or start + length - 1 > height * width:
            raise UserError(
                f"{where}: the run of {length} from {start} is not in the {width}x{height} picture "
                f"(pixels 1 to {height * width}); give the image that belongs to it"
            )
    for (start, length), (following, _) in pairwise(pairs):
        if start + length > following:
            raise UserError(f"{where}: the runs from {start} and {following} overlap")
    mask = np.zeros(height * width, dtype=np.bool_)
    for start, length in pairs:
        mask[start - 1 : start - 1 + length] = True
    if not mask.any():
        raise UserError(f"{where} has no run: nothing would be painted")
    return mask.reshape(height, width)


def read_editbench(root: Path, kind: EditBenchPrompt) -> Candidates:
    """One triplet per row of EditBench's two tables (Imagen Editor, arXiv 2212.06909).

    annotations_natural.csv and annotations_generated.csv have the columns `aos` (the files' name)
    and `prompt_full`, `prompt_mask-simple`, `prompt_mask-rich`, of which `kind` chooses one. The
    image is references_HALF/<aos>.png and the mask masks_HALF/<aos>.png, white = paint. One table
    alone is enough. A missing image is reported when it is painted, as in any data set.

    Raises:
        UserError: with the row's line.
    """
    tables = {half: root / f"annotations_{half}.csv" for half in HALVES}
    present = {half: table for half, table in tables.items() if table.is_file()}
    if not present:
        raise UserError(
            f"{tables[HALVES[0]]} does not exist, nor {tables[HALVES[1]].name}: set data.root to "
            "EditBench's folder"
        )
    triplets: dict[str, Triplet] = {}
    column = PROMPT_COLUMNS[kind]
    for half, table in present.items():
        for line, row in table_rows(table, (STEM, column), "set data.root"):
            where, name = f"{table} line {line}", f"{row[STEM]}.png"
            image = named_file(root / f"references_{half}", name, where)
            mask = named_file(root / f"masks_{half}", name, where)
            triplet_id = _id(f"{half}_{row[STEM]}")
            if triplet_id in triplets:
                raise UserError(f"{where}: {STEM} {row[STEM][:60]!r} is there twice; delete one")
            file_name = image.relative_to(root).as_posix()
            triplets[triplet_id] = masked_triplet(
                triplet_id, root, file_name, mask, row[column], where
            )
    if not triplets:
        raise UserError(f"{next(iter(present.values()))} has no rows: fetch it again")
    return Candidates(tuple(triplets.values()), {})


def _id(name: str) -> str:
    """The name as an id for tables, pages and logs; an odd one gets a hash, so it stays unique."""
    plain = re.sub(r"[^\w.-]+", "_", name)[:80]
    return plain if plain == name else f"{plain}-{digest(name, 12)}"
