"""What each choice of a reading does to the pictures, from finished runs of one sample and seed.

    python scripts/readings_effect.py outputs/<reference run> outputs/<run> [...] [--csv FILE]

For every run: which settings of the method differ from the reference run's, by how many grey levels
(of 255) its pictures differ inside the mask and outside, and the difference of the scores with how
many labels are found that the reference missed, and lost that it found.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from profi.data.manifest import read_manifest
from profi.data.masks import triplet_mask
from profi.runners.score import decode, resized_mask
from profi.runners.spec import RunFolder, run_record
from profi.stores.generations import read_generations
from profi.stores.scores import newest_scores
from profi.types import UserError


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of everything in a nested mapping."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


def changes(reference: Path, run: Path) -> str:
    """The settings of the method in which a run differs from the reference."""
    before, after = (
        dict(leaves(run_record(RunFolder(folder))["pixels"]["method"]))
        for folder in (reference, run)
    )
    told = [f"{k}={after.get(k)}" for k in sorted(before | after) if before.get(k) != after.get(k)]
    return ", ".join(told) or "nothing"


def effect(reference: Path, run: Path) -> dict[str, str]:
    """One row of the table."""
    triplets = {t.triplet_id: t for t in read_manifest(reference / "manifest.parquet")}
    theirs = {g.triplet_id: g for g in read_generations(reference / "generations")}
    inside, outside = [], []
    for item in read_generations(run / "generations"):
        if item.triplet_id not in theirs:
            raise UserError(
                f"{run} has {item.triplet_id}, {reference} has not: compare equal samples"
            )
        a, b = decode(item.image), decode(theirs[item.triplet_id].image)
        mask = resized_mask(triplet_mask(triplets[item.triplet_id]), *a.shape[:2])
        difference = np.abs(a.astype(int) - b.astype(int)).mean(axis=2)
        inside.append(difference[mask].mean())
        outside.append(difference[~mask].mean())
    row = {
        "changed": changes(reference, run),
        "inside": f"{np.mean(inside):.2f}",
        "outside": f"{np.mean(outside):.2f}",
    }
    for metric in ("clip_score", "aesthetic"):
        a, b = (newest_scores(r / "scores", metric) for r in (run, reference))
        row[metric] = f"{np.mean([a[name] - b[name] for name in a]):+.2f}"
    a, b = (newest_scores(r / "scores", "accuracy") for r in (run, reference))
    row["won"] = str(sum(a[name] > b[name] for name in a))
    row["lost"] = str(sum(a[name] < b[name] for name in a))
    return row


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description="the numeric effect of each choice")
    parser.add_argument("reference", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    rows = [effect(options.reference, run) for run in options.runs]
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(row.values()) + " |")
    if options.csv is not None:
        pd.DataFrame(rows).to_csv(options.csv, index=False, lineterminator="\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
