"""The scores store: `<run>/scores/<metric>-<hash of its identity>/part-*.parquet`.

Part n holds the scores of part n of the generations and the digest of that part. After a part is
painted again, its old scores are stale and count as absent. A part also lists which NaN come from a
failure (memory, a damaged file), so that these samples are tried again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from profi.store.generations import stored_pictures_digest
from profi.store.parts import part_facts, part_indices, read_part, read_parts, write_part
from profi.types import Score, UserError, digest

SCHEMA = pa.schema(
    [
        ("triplet_id", pa.string()),
        ("seed", pa.int64()),
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
)
#: The file with the identity that the hash in the folder's name is of. Readers of Parquet folders
#: (pandas, pyarrow) pass over names that begin with an underscore.
IDENTITY = "_identity.json"
#: The fact that lists how many samples were scored at once (JSON).
BATCH_SIZES = "batch sizes"
_SOURCE = "generations"
_FAILED = "failed"


def scores_folder_name(metric: str, identity: Mapping[str, Any]) -> str:
    """`<metric>-<8 hex digits>`: each identity of a metric has its own folder."""
    return f"{metric}-{digest(dict(identity), 8)}"


def metric_of(folder_name: str) -> str:
    """The metric's name in a `scores_folder_name`."""
    return folder_name.rpartition("-")[0]


def write_scores(
    folder: Path,
    index: int,
    scores: Sequence[Score],
    source: str,
    failed: Iterable[str] = (),
    batch_sizes: Iterable[int] = (),
) -> None:
    """Write one part.

    Args:
        folder: the metric's folder.
        index: the part's number.
        scores: its rows.
        source: the `pictures_digest` of the generations that were scored.
        failed: the triplets whose NaN comes from a failure; other NaN mean that the triplet has
            no such score.
        batch_sizes: how many samples were scored at once, when any were scored last.
    """
    facts = {
        _SOURCE: source,
        _FAILED: json.dumps(sorted(failed)),
        BATCH_SIZES: json.dumps(sorted(batch_sizes)),
    }
    write_part(folder, index, [asdict(score) for score in scores], SCHEMA, facts)


def failed_scores(folder: Path, index: int) -> frozenset[str]:
    """The triplets of a part whose scoring failed (see `write_scores`)."""
    return frozenset(json.loads(part_facts(folder, index).get(_FAILED, "[]")))


def read_scores_part(folder: Path, index: int, source: str) -> list[Score] | None:
    """The scores of exactly these generations; None if they are absent, broken or stale."""
    part = read_part(folder, index, SCHEMA)
    if part is None or part.facts.get(_SOURCE) != source:
        return None
    return [Score(**row) for row in part.rows]


def read_scores(folders: Iterable[Path]) -> pd.DataFrame:
    """The scores of several folders as a `scores_frame`, stale ones included."""
    return scores_frame(
        Score(**row)
        for folder in folders
        for part in read_parts(folder, SCHEMA)
        for row in part.rows
    )


def newest_scores(scores: Path, metric: str) -> dict[str, float]:
    """A run's values of a metric by triplet, from the folder that was written last.

    Scores of pictures that were painted again since are left out.

    Raises:
        UserError: `scores`, the folder of the run's scores, has none of this metric.
    """
    folder, pictures = newest_folder(scores, metric), scores.parent / "generations"
    found: dict[str, float] = {}
    for index in part_indices(folder):
        source = stored_pictures_digest(pictures, index)
        if source is not None:
            for score in read_scores_part(folder, index, source) or []:
                found[score.triplet_id] = score.value
    return found


def newest_folder(scores: Path, metric: str) -> Path:
    """The folder of a metric's scores that was written last; raises like `newest_scores`."""
    folders = [
        folder
        for folder in scores.glob(f"{metric}-*")
        if metric_of(folder.name) == metric and part_indices(folder)
    ]
    if not folders:
        raise UserError(f"{scores} has no {metric}: run stage=score first")
    return max(folders, key=lambda folder: folder.stat().st_mtime)


def scores_frame(scores: Iterable[Score]) -> pd.DataFrame:
    """Columns triplet_id, seed, metric, value (NaN: no score); one row per score, in order."""
    frame = pd.DataFrame([asdict(score) for score in scores], columns=SCHEMA.names)
    return frame.astype({"seed": "int64", "value": "float64"})
