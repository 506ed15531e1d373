"""The manifest: which triplets a run paints, in which order, as one Parquet file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from profi.atomic import whole_file
from profi.types import Triplet, UserError, digest

SCHEMA = pa.schema(
    [
        ("triplet_id", pa.string()),
        ("image_id", pa.int64()),
        ("annotation_id", pa.int64()),
        ("category_id", pa.int64()),
        ("prompt", pa.string()),
        ("file_name", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("hull", pa.list_(pa.float64())),
        ("rle", pa.string()),
        ("filling", pa.string()),
    ]
)
_DIGEST_KEY = b"profi.manifest_digest"


def manifest_digest(triplets: Sequence[Triplet]) -> str:
    """A hash of the rows' values and their order.

    It does not depend on the file format or its library's version.
    """
    # As the file has them: numbers of a plugin's hull may be whole.
    rows = [asdict(triplet) | {"hull": list(map(float, triplet.hull))} for triplet in triplets]
    return digest(rows)


def write_manifest(path: Path, triplets: Sequence[Triplet]) -> None:
    """Write the triplets, one row each, and their digest. The write is atomic."""
    rows = [asdict(triplet) | {"hull": list(triplet.hull)} for triplet in triplets]
    table = pa.Table.from_pylist(rows, schema=SCHEMA).replace_schema_metadata(
        {_DIGEST_KEY: manifest_digest(triplets).encode()}
    )
    with whole_file(path) as file:
        pq.write_table(table, file)


def read_manifest(path: Path) -> tuple[Triplet, ...]:
    """The triplets of a manifest, in order; UserError if it is missing or damaged."""
    try:
        table = pq.read_table(path, schema=SCHEMA)
        recorded = (pq.read_schema(path).metadata or {}).get(_DIGEST_KEY, b"").decode()
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"manifest {path} cannot be read ({reason}): run stage=generate") from error
    triplets = tuple(Triplet(**(row | {"hull": tuple(row["hull"])})) for row in table.to_pylist())
    if manifest_digest(triplets) != recorded:
        raise UserError(f"manifest {path} is damaged (its hash differs): run stage=generate")
    return triplets


@dataclass(frozen=True)
class Candidates:
    """All triplets of a data set, and the number of skipped instances by reason."""

    triplets: tuple[Triplet, ...]
    skipped: Mapping[str, int]


def sample_triplets(
    triplets: Iterable[Triplet], limit: int | None, seed: int
) -> tuple[Triplet, ...]:
    """A sample without replacement that depends only on the ids and the seed.

    The triplets are sorted by the hexadecimal SHA-256 of the text "<seed>:<annotation id>"
    ("<seed>:<triplet id>" without annotations). The first `limit` are the sample, in that order
    (None: all). So the file's order and library versions do not matter, and a smaller sample is
    the start of a larger one.

    Raises:
        UserError: there are fewer than `limit` triplets.
    """
    ordered = sorted(triplets, key=lambda triplet: _rank(triplet, seed))
    if limit is not None and limit > len(ordered):
        raise UserError(
            f"data.limit={limit}: there are only {len(ordered)} usable triplets; set a lower limit"
        )
    return tuple(ordered[:limit])


def in_order(candidates: Iterable[Triplet], limit: int | None, seed: int) -> tuple[Triplet, ...]:
    """The same sample as `sample_triplets`, in the candidates' own order."""
    found = tuple(candidates)
    drawn = {triplet.triplet_id for triplet in sample_triplets(found, limit, seed)}
    return tuple(triplet for triplet in found if triplet.triplet_id in drawn)


def _rank(triplet: Triplet, seed: int) -> str:
    number = triplet.annotation_id
    name = triplet.triplet_id if number is None else number
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def parts(triplets: Sequence[Triplet], size: int) -> list[tuple[Triplet, ...]]:
    """The parts of a manifest: fixed slices of `size` triplets, the units of work."""
    return [tuple(triplets[start : start + size]) for start in range(0, len(triplets), size)]
