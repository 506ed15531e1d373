"""Draw docs/comparison.png: input, mask, base and ProFI side by side, from finished runs.

    python scripts/readme_picture.py outputs/<base run> outputs/<profi run> [--rows 4] [--seed 0]

Rows are drawn at random (by the seed) among the triplets whose label the detector finds in the
ProFI painting and not in the base's, a category at most once: what the method is for. How often
that happens, and the reverse, is printed and is in the table.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np

from profi.data.manifest import read_manifest
from profi.data.masks import triplet_mask
from profi.data.pictures import load_image
from profi.harness.score import decode
from profi.reports.thumbnails import StripRow, comparison_strip
from profi.settings import shipped_path
from profi.store.generations import read_generations
from profi.store.scores import newest_scores
from profi.types import UserError


def pictures(run: Path) -> dict[str, bytes]:
    """PNG bytes by triplet id."""
    return {item.triplet_id: item.image for item in read_generations(run / "generations")}


def main() -> None:
    """Choose the rows and draw them."""
    parser = argparse.ArgumentParser(description="draw the README's picture")
    parser.add_argument("base", type=Path)
    parser.add_argument("profi", type=Path)
    parser.add_argument("--images", default="shipped:cpu/data/images")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/comparison.png"))
    options = parser.parse_args()
    triplets = {t.triplet_id: t for t in read_manifest(options.base / "manifest.parquet")}
    base, full = (newest_scores(r / "scores", "accuracy") for r in (options.base, options.profi))
    both = [name for name in triplets if name in base and name in full]
    won = [name for name in both if full[name] > base[name]]
    lost = [name for name in both if full[name] < base[name]]
    print(f"of {len(both)} triplets ProFI finds {len(won)} that base misses, loses {len(lost)}")
    won.sort(key=lambda name: hashlib.sha256(f"{options.seed}:{name}".encode()).digest())
    chosen: dict[str, str] = {}
    for name in won:
        chosen.setdefault(triplets[name].prompt, name)
    painted = {"base": pictures(options.base), "ProFI": pictures(options.profi)}
    rows = []
    for name in list(chosen.values())[: options.rows]:
        triplet = triplets[name]
        image, mask = load_image(shipped_path(options.images), triplet), triplet_mask(triplet)
        masked = np.where(mask[..., None], 127, image).astype(np.uint8)
        shown = {title: decode(store[name]) for title, store in painted.items()}
        rows.append(StripRow(triplet.prompt, {"input": image, "mask": masked, **shown}))
    comparison_strip(rows, options.out, inches=1.1)
    print(options.out)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
