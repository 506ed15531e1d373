"""Append-only JSON lines: what failed and why (`quarantine.jsonl`)."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
