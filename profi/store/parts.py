"""A folder of Parquet parts, each whole or absent, and journals: append-only JSON lines.

A part is the unit of work. It is written under a temporary name in the same folder, flushed to the
disk and renamed, so a kill at any moment leaves only whole parts. Each part has a SHA-256 of its
rows. A part that does not match it, or cannot be read, is moved aside as `<name>.broken`, logged,
and counts as absent. To merge the parts of several machines, copy them into one folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from profi.atomic import whole_file
from profi.types import canonical_json


def append_line(path: Path, entry: Mapping[str, Any]) -> None:
    """Append one line by a single write, so that lines of several processes do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        # A kill may have cut the last line short: this one must not continue it.
        start = "\n" if size and os.pread(descriptor, 1, size - 1) != b"\n" else ""
        os.write(descriptor, (start + canonical_json(entry) + "\n").encode())
    except OSError as error:
        # The error of a failed write does not name the file.
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)


def quarantine(path: Path, triplet_id: str, stage: str, error: BaseException) -> None:
    """Record a failed sample: its id, the stage, the reason in one line and the traceback."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    trace = "".join(traceback.format_exception(error))
    append_line(
        path, {"triplet_id": triplet_id, "stage": stage, "reason": reason, "traceback": trace}
    )


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The entries of a journal; skips a line that a kill cut short."""
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return entries


log = logging.getLogger(__name__)

_ROWS_KEY = b"profi.rows_sha256"
_FACTS_KEY = b"profi.facts"
#: A temporary file older than this (seconds) is abandoned; writing a part takes a few seconds.
_ABANDONED_S = 3600.0
_NAME = re.compile(r"part-(\d{5,})\.parquet")


@dataclass(frozen=True)
class Part:
    """A part as read: its rows by column, and the `facts` that its writer recorded."""

    index: int
    rows: list[dict[str, Any]]
    facts: Mapping[str, str]


def rows_digest(rows: list[dict[str, Any]]) -> str:
    """SHA-256 of the rows in order; bytes enter by their own SHA-256, NaN as "NaN"."""

    def plain(value: Any) -> Any:
        return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else value

    total = hashlib.sha256()
    for row in rows:
        total.update(canonical_json({name: plain(value) for name, value in row.items()}).encode())
        total.update(b"\n")
    return total.hexdigest()


def part_path(folder: Path, index: int) -> Path:
    """`folder`/part-00003.parquet."""
    return folder / f"part-{index:05d}.parquet"


def part_indices(folder: Path) -> list[int]:
    """The numbers of the parts in a folder, ascending; their contents are not checked."""
    if not folder.is_dir():
        return []
    matches = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match.group(1)) for match in matches if match)


def write_part(
    folder: Path,
    index: int,
    rows: list[dict[str, Any]],
    schema: pa.Schema,
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write a part, or replace the one of this number; the file appears whole or not at all."""
    table = pa.Table.from_pylist(rows, schema=schema)
    # Digest of the stored values: a 1 in a float column is stored as 1.0.
    metadata = {
        _ROWS_KEY: rows_digest(table.to_pylist()).encode(),
        _FACTS_KEY: canonical_json(dict(facts or {})).encode(),
    }
    table = table.replace_schema_metadata(metadata)
    path = part_path(folder, index)
    with whole_file(path) as file:
        # PNG does not compress further.
        pq.write_table(table, file, compression="none")
    _delete_leftovers(path)


def _delete_leftovers(path: Path) -> None:
    """Delete old temporary files of this part; a young one may belong to a running process."""
    # Compare with the folder's clock: on a network it may differ from this machine's.
    with suppress(FileNotFoundError):
        latest = path.stat().st_mtime - _ABANDONED_S
        for leftover in path.parent.glob(f".{path.name}.*.tmp"):
            if leftover.stat().st_mtime < latest:
                leftover.unlink()


def read_part(folder: Path, index: int, schema: pa.Schema) -> Part | None:
    """A part, verified; None if it is absent or was broken and moved aside."""
    path = part_path(folder, index)
    if not path.is_file():
        return None
    try:
        with pq.ParquetFile(path) as file:
            table, metadata = file.read(), file.schema_arrow.metadata or {}
        reason = "" if table.schema.equals(schema) else "it has other columns"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        # A file that cannot be read now may be whole: only what Arrow finds in it says that it is
        # broken, and such errors have no number.
        if isinstance(error, MemoryError) or getattr(error, "errno", None) is not None:
            raise
        reason = " ".join(str(error).split())[:160] or type(error).__name__
    if not reason:
        rows = table.to_pylist()
        if metadata.get(_ROWS_KEY, b"").decode() == rows_digest(rows):
            return Part(index, rows, json.loads(metadata.get(_FACTS_KEY, b"{}")))
        reason = "its checksum differs"
    _move_aside(path, reason)
    return None


def part_facts(folder: Path, index: int) -> Mapping[str, str]:
    """The facts of a part, without reading its rows; empty if it cannot be read."""
    try:
        metadata = pq.read_schema(part_path(folder, index)).metadata or {}
    except (OSError, pa.ArrowException):
        return {}
    facts: dict[str, str] = json.loads(metadata.get(_FACTS_KEY, b"{}"))
    return facts


def read_parts(folder: Path, schema: pa.Schema) -> Iterator[Part]:
    """All whole parts of a folder in the order of their numbers, one in memory at a time."""
    for index in part_indices(folder):
        part = read_part(folder, index, schema)
        if part is not None:
            yield part


def _move_aside(path: Path, reason: str) -> None:
    """Rename a broken part to a free name, so that nothing reads it again."""
    aside = path.with_name(path.name + ".broken")
    count = 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.{count}.broken")
    log.warning("%s is broken (%s): moved aside to %s, to be done again", path, reason, aside.name)
    # Another job may have moved it at the same moment.
    with suppress(FileNotFoundError):
        path.replace(aside)
