"""Count how a run neglected its prompts: the paper's two failures (sec. 1, fig. 5).

    python scripts/count_neglect.py outputs/<run id> [...] [--csv FILE]

Of every painting in which the detector does not find the label, it is asked what stands inside
the mask instead (detections with a score above 0.3 whose centre lies in the mask):

    background dominance      nothing at all
    nearby-object dominance   an object of a category that the known part of the scene shows, that
                              is, of an instance with a third of its hull or more outside the mask
    other                     an object of another category
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from profi.data.coco import read_coco
from profi.data.manifest import read_manifest
from profi.data.masks import triplet_mask
from profi.figures.neglect import KINDS, kind_of, known_categories, scenes_of
from profi.harness.run_folder import RunFolder, evaluation_of_run, method_name, run_record
from profi.harness.score import decode, painted_mask
from profi.metrics import TransformersDetector
from profi.metrics.functional import bounding_box, crop
from profi.models.devices import silence_libraries
from profi.settings import shipped_path
from profi.store.generations import read_generations
from profi.types import Triplet, UserError

THRESHOLD = 0.3


def count(run: Path, detector: TransformersDetector, instances: Sequence[Triplet]) -> Counter[str]:
    """The kinds of all paintings of one run; `instances` are all objects of the scenes."""
    scenes = scenes_of(instances)
    triplets = {t.triplet_id: t for t in read_manifest(run / "manifest.parquet")}
    evaluation = evaluation_of_run(RunFolder(run))
    counts: Counter[str] = Counter()
    for item in read_generations(run / "generations"):
        triplet = triplets[item.triplet_id]
        image = decode(item.image)
        mask = painted_mask(triplet_mask(triplet), image.shape[:2], evaluation)
        known = known_categories(triplet, scenes[triplet.image_id])
        (detections,) = detector.detect([crop(image, bounding_box(mask))])
        counts[kind_of(triplet, mask, detections, known, THRESHOLD)] += 1
    return counts


def main() -> None:
    """Print a line per run and write the same as CSV."""
    parser = argparse.ArgumentParser(description="count background and nearby-object dominance")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--detector", default="shipped:cpu/detector")
    parser.add_argument("--annotations", default="shipped:cpu/data/instances_val.json")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    silence_libraries()
    detector = TransformersDetector.from_pretrained(str(shipped_path(options.detector)))
    instances = read_coco(shipped_path(options.annotations), 1.0).triplets
    rows = []
    for run in options.runs:
        counts = count(run, detector, instances)
        total = sum(counts.values())
        shares = ", ".join(f"{kind} {100 * counts[kind] / total:.1f} %" for kind in KINDS)
        print(f"{run.name}: {total} paintings: {shares}")
        method = method_name(run_record(RunFolder(run))["pixels"])
        rows.append({"ablation": method, "run": run.name, "paintings": total})
        rows[-1] |= {kind: counts[kind] for kind in KINDS}
    if options.csv:
        pd.DataFrame(rows).to_csv(options.csv, index=False, lineterminator="\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
