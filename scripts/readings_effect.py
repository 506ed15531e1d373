"""What each choice of a reading or an evaluation does, from finished runs of one sample and seed.

    python scripts/readings_effect.py outputs/<reference run> outputs/<run> [...] [--csv FILE]

For every run: which settings differ from the reference run's (those that change pixels, and those
of the scores that were made last), by how many grey levels (of 255) its pictures differ inside the
reference's mask and outside, and the difference of the scores with how many labels are found that
the reference missed, and lost that it found. Triplets are paired by image and annotation, so runs
may name and order them otherwise; pictures of another size are brought to the reference's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from profi.data.manifest import read_manifest
from profi.data.masks import triplet_mask
from profi.harness.run_folder import RunFolder, evaluation_of_run, run_record
from profi.harness.score import decode, painted_mask
from profi.settings import OURS, RASGSettings, Reading, VanillaSettings
from profi.store.generations import read_generations
from profi.store.scores import IDENTITY, newest_folder, newest_scores
from profi.types import Triplet, UserError

#: What of a run's record is no choice, or follows from one.
NO_CHOICE = ("code", "method.code", "manifest", "images")
METRICS = ("clip_score", "aesthetic", "accuracy")


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of everything in a nested mapping."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


def choices(run: Path) -> dict[str, Any]:
    """The settings that a run was painted by, and those of its newest scores."""
    found = dict(leaves(run_record(RunFolder(run))["pixels"]))
    for metric in METRICS:
        identity = json.loads((newest_folder(run / "scores", metric) / IDENTITY).read_text())
        found |= leaves(identity, metric)
    return {name: value for name, value in found.items() if name not in NO_CHOICE}


def usual_choices() -> dict[str, Any]:
    """What is meant by a choice that a run's record lacks."""
    method = {"reading": asdict(Reading()), "rasg": asdict(RASGSettings())}
    method["vanilla"] = asdict(VanillaSettings())
    return dict(leaves({"method": method, "evaluation": asdict(OURS)}))


def changes(reference: Path, run: Path) -> str:
    """The settings in which a run differs from the reference."""
    before, after, usual = choices(reference), choices(run), usual_choices()
    differences = [
        f"{k.removeprefix('method.')}={after.get(k, usual.get(k))}"
        for k in sorted(before | after)
        if before.get(k) != after.get(k)
    ]
    return ", ".join(differences) or "nothing"


def key(triplet: Triplet) -> Hashable:
    """What a triplet is, whatever it is called."""
    return triplet.annotation_id or triplet.triplet_id


def by_key(run: Path) -> dict[Hashable, Triplet]:
    """A run's triplets."""
    return {key(t): t for t in read_manifest(run / "manifest.parquet")}


def resized(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A picture (uint8 [h, w, 3]) in the size of another one's shape."""
    if picture.shape == shape:
        return picture
    size = (shape[1], shape[0])
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def grey_levels(reference: Path, run: Path) -> tuple[float, float]:
    """The mean differences inside the reference's mask and outside."""
    triplets, others = by_key(reference), by_key(run)
    protocol = evaluation_of_run(RunFolder(reference))
    theirs = {g.triplet_id: g.image for g in read_generations(run / "generations")}
    inside, outside = [], []
    ours = {g.triplet_id: g.image for g in read_generations(reference / "generations")}
    for name, triplet in triplets.items():
        other = others.get(name)
        if other is None or triplet.triplet_id not in ours or other.triplet_id not in theirs:
            continue
        a = decode(ours[triplet.triplet_id])
        b = resized(decode(theirs[other.triplet_id]), a.shape)
        mask = painted_mask(triplet_mask(triplet), a.shape[:2], protocol)
        difference = np.abs(a.astype(int) - b.astype(int)).mean(axis=2)
        inside.append(difference[mask].mean())
        outside.append(difference[~mask].mean())
    if not inside:
        raise UserError(f"{run} has no triplet of {reference}: compare runs of one sample")
    return float(np.mean(inside)), float(np.mean(outside))


def scores(run: Path, metric: str) -> dict[Hashable, float]:
    """A run's newest scores of a metric."""
    values = newest_scores(run / "scores", metric)
    return {k: values[t.triplet_id] for k, t in by_key(run).items() if t.triplet_id in values}


def effect(reference: Path, run: Path) -> dict[str, str]:
    """One row of the table."""
    inside, outside = grey_levels(reference, run)
    pairs = {}
    for metric in METRICS:
        before, after = scores(reference, metric), scores(run, metric)
        shared = [k for k in before if k in after and not np.isnan(before[k] + after[k])]
        pairs[metric] = np.array([(before[k], after[k]) for k in shared])
    found = pairs["accuracy"]
    return {
        "changed": changes(reference, run),
        "pairs": str(len(found)),
        "inside": f"{inside:.2f}",
        "outside": f"{outside:.2f}",
        "clip_score": f"{np.mean(np.diff(pairs['clip_score'])):+.2f}",
        "aesthetic": f"{np.mean(np.diff(pairs['aesthetic'])):+.3f}",
        "won": str(int((found[:, 1] > found[:, 0]).sum())),
        "lost": str(int((found[:, 1] < found[:, 0]).sum())),
    }


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
