"""The manifest: which triplets a run paints, in which order, as one Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
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
    """A hash of the rows and their order: of the values, not of a file's bytes.

    So it outlives versions of the file format and its library.
    """
    return digest([asdict(triplet) for triplet in triplets])


def write_manifest(path: Path, triplets: Sequence[Triplet]) -> None:
    """Write the triplets, one row each, with their digest; the file appears whole or not at all."""
    rows = [asdict(triplet) | {"hull": list(triplet.hull)} for triplet in triplets]
    table = pa.Table.from_pylist(rows, schema=SCHEMA).replace_schema_metadata(
        {_DIGEST_KEY: manifest_digest(triplets).encode()}
    )
    with whole_file(path) as file:
        pq.write_table(table, file)


def read_manifest(path: Path) -> tuple[Triplet, ...]:
    """The triplets of a manifest, in order; UserError where it is missing or damaged."""
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
