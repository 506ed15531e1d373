"""The generations store: `<run>/generations/part-*.parquet`, one row per painted image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from profi.store.parts import (
    Part,
    part_indices,
    part_path,
    read_part,
    read_parts,
    write_part,
)
from profi.types import Generation, digest

#: The column with the image's SHA-256.
HASH = "image_sha256"
SCHEMA = pa.schema(
    [
        ("triplet_id", pa.string()),
        ("seed", pa.int64()),
        ("image", pa.binary()),
        (HASH, pa.string()),
        ("seconds", pa.float64()),
        ("peak_memory_bytes", pa.float64()),
    ]
)


def write_generations(
    folder: Path,
    index: int,
    generations: Sequence[Generation],
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write one part; `facts` record how it was painted."""
    rows = [asdict(item) | {HASH: _sha256(item.image)} for item in generations]
    write_part(folder, index, rows, SCHEMA, facts)


def read_generations_part(folder: Path, index: int) -> list[Generation] | None:
    """The images of one part, verified; None if it is absent or was broken and moved aside."""
    part = read_part(folder, index, SCHEMA)
    return None if part is None else _generations(part)


def read_generations(folder: Path) -> Iterator[Generation]:
    """All painted images of a run, verified, one part in memory at a time."""
    for part in read_parts(folder, SCHEMA):
        yield from _generations(part)


def painted_count(folder: Path) -> int:
    """The number of painted images of a run, by the parts' footers; damaged parts have none."""
    count = 0
    for index in part_indices(folder):
        with suppress(pa.ArrowInvalid, OSError):
            count += int(pq.read_metadata(part_path(folder, index)).num_rows)
    return count


def _generations(part: Part) -> list[Generation]:
    # The part's checksum covers the images' bytes; their own hashes are for other readers.
    return [
        Generation(**{name: value for name, value in row.items() if name != HASH})
        for row in part.rows
    ]


def pictures_digest(generations: Sequence[Generation]) -> str:
    """Digest of what scores depend on: ids, seeds and images in order, without the times."""
    return digest([(item.triplet_id, item.seed, _sha256(item.image)) for item in generations])


def stored_pictures_digest(folder: Path, index: int) -> str | None:
    """`pictures_digest` of a stored part, by its recorded hashes: the images are not read.

    None if the part is absent or damaged.
    """
    try:
        table = pq.read_table(part_path(folder, index), columns=["triplet_id", "seed", HASH])
    except (FileNotFoundError, pa.ArrowInvalid):
        return None
    return digest([tuple(row.values()) for row in table.to_pylist()])


def _sha256(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()
