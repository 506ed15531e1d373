"""What the runs below a folder hold."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd

from profi.store.generations import read_generations
from profi.store.scores import read_scores


def runs(out: Path) -> dict[int, Path]:
    """The runs' folders by seed."""
    records = {path.parent: json.loads(path.read_text()) for path in out.glob("*/run.json")}
    return {record["pixels"]["seed"]: folder for folder, record in records.items()}


def pictures(out: Path) -> list[tuple[int, str, str]]:
    """(seed, triplet, SHA-256 of the PNG), sorted; a sample twice is there twice."""
    return sorted(
        (item.seed, item.triplet_id, hashlib.sha256(item.image).hexdigest())
        for folder in runs(out).values()
        for item in read_generations(folder / "generations")
    )


def scores(out: Path) -> pd.DataFrame:
    """All scores, sorted; one that is there twice is there twice."""
    found = read_scores(
        path for folder in runs(out).values() for path in sorted((folder / "scores").iterdir())
    )
    return found.sort_values(["seed", "metric", "triplet_id"], ignore_index=True)
