"""Writing a file so that it appears whole or not at all. A leaf: imports nothing of profi."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the name `path` when the block ends, and is gone when it raises.

    It is written under a name of its own in the same folder (made where needed), flushed to the
    disk and renamed: a kill at any moment leaves the old file or the new one, and several writers
    do not mix theirs.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        # A write that fails names no file.
        if error.filename is None:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    # The rename itself must be on the disk too, before anything relies on it.
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """A whole text file, UTF-8."""
    with whole_file(path) as file:
        file.write(text.encode())
