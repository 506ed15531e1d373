"""What W&B wrote to the disk in offline mode, read without W&B's own reader.

A `.wandb` file is a log of records in LevelDB's format: 7 bytes ahead, then blocks of 32 KiB whose
pieces have a header of checksum (4 bytes), length (2), kind (1 whole, 2 first, 3 middle, 4 last).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wandb
from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 32768, 7


@dataclass
class Session:
    """One file: the run as it was opened, its history, its last summary, its artifacts' files."""

    run_id: str = ""
    name: str = ""
    group: str = ""
    project: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    exit_code: int | None = None

    def over(self, name: str) -> list[Any]:
        """The history of one value."""
        return [row[name] for row in self.history if name in row]


def records(path: Path) -> Iterator[Record]:
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    place, parts = HEADER, b""
    while place + HEADER <= len(data):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        length = int.from_bytes(data[place + 4 : place + 6], "little")
        kind = data[place + 6]
        parts += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):
            yield Record.FromString(parts)
            parts = b""


def update(values: dict[str, Any], items: Iterable[Any]) -> dict[str, Any]:
    for item in items:
        *outer, last = list(item.nested_key) or [item.key]
        place = values
        for name in outer:
            place = place.setdefault(name, {})
        place[last] = json.loads(item.value_json)
    return values


def read(path: Path) -> Session:
    session = Session()
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            session.run_id, session.name = run.run_id, run.display_name
            session.group, session.project = run.run_group, run.project
            update(session.config, run.config.update)
        elif kind == "config":
            update(session.config, record.config.update)
        elif kind == "history":
            session.history.append(update({}, record.history.item))
        elif kind == "summary":
            update(session.summary, record.summary.update)
        elif kind == "metric":
            session.metrics[record.metric.glob_name] = record.metric.step_metric
        elif kind == "artifact":
            contents = record.artifact.manifest.contents
            session.files |= {item.path: Path(item.local_path) for item in contents}
        elif kind == "exit":
            session.exit_code = record.exit.exit_code
    return session


def sessions(out: Path) -> list[Session]:
    """All sessions below `out`, in the order of their start."""
    # The service writes its last records when it ends.
    wandb.teardown()
    return [read(path) for path in sorted((out / "wandb").glob("offline-run-*/run-*.wandb"))]
