"""What a reader's browser loads of a report, over a page with all pictures in it.

    python -m benchmarks.report [--triplets 10000]

Four rows of made-up scores and pictures (smooth noise of 512 pixels, reduced as the report does),
through the report's own writers into a temporary folder. Loaded are the page, the gallery's index
and, for the first screenful of twelve triplets, twelve chunks: the most that they can lie in.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from profi import reports
from profi.reports.gallery import CHUNK, INDEX
from profi.reports.names import row_labels
from profi.reports.statistics import row_keys
from profi.reports.thumbnails import thumbnail

ABLATIONS = ("base", "painta_only", "rasg_only", "profi")
METRICS = ("clip_score", "accuracy", "aesthetic")
SCREENFUL = 12


def made_up(n_triplets: int, rng: np.random.Generator) -> pd.DataFrame:
    """A long table: two or three triplets per image, as in the paper's sample."""
    frames = []
    for ablation, metric in itertools.product(ABLATIONS, METRICS):
        values = rng.normal(25, 3, n_triplets)
        if metric == "accuracy":
            values = 100.0 * (rng.random(n_triplets) < 0.6)
        frame = pd.DataFrame({"triplet_id": [f"{i:012d}" for i in range(n_triplets)]})
        frame["image_id"] = np.arange(n_triplets) * 4284 // 10_000
        frame["category"] = [f"category {i % 80}" for i in range(n_triplets)]
        frame["metric"], frame["value"], frame["ablation"] = metric, values, ablation
        frames.append(frame.assign(model="m", reading="r", seed=0, run_id=ablation))
    return pd.concat(frames, ignore_index=True)


def pictures(rng: np.random.Generator, count: int = 16) -> list[bytes]:
    """As the gallery shows them."""
    noise = (rng.random((512, 512, 3)) for _ in range(count))
    smooth = (sum(gaussian_filter(x, (s, s, 0)) * s for s in (1, 4, 16)) for x in noise)
    scaled = (255 * (x - x.min()) / (x.max() - x.min()) for x in smooth)
    return [thumbnail(x.astype(np.uint8)) for x in scaled]


def items(scores: pd.DataFrame, shown: list[bytes]) -> Iterator[reports.GalleryItem]:
    """One per triplet."""
    labels = row_labels(row_keys(scores))
    values = {key.ablation: label for key, label in labels.items()}
    for number, (name, lines) in enumerate(scores.groupby("triplet_id")):
        found: dict[str, dict[str, float]] = {label: {} for label in labels.values()}
        for line in lines.itertuples():
            found[values[line.ablation]][line.metric] = line.value
        outputs = {
            label: shown[(number + place) % len(shown)]
            for place, label in enumerate(labels.values())
        }
        category = str(lines["category"].iloc[0])
        yield reports.GalleryItem(str(name), category, shown[number % len(shown)], outputs, found)


def main() -> None:
    """Write a report and print what it weighs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--triplets", type=int, default=10_000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    scores, shown = made_up(options.triplets, rng), pictures(rng)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        labels = row_labels(row_keys(scores))
        gallery = Path(folder) / "gallery"
        count = reports.write_gallery(gallery, items(scores, shown), labels, METRICS)
        summary, differences = reports.summarise(scores), reports.paired_difference(scores)
        best = reports.clear_best(scores, summary)
        tables = [reports.difference_table(differences, labels), reports.score_table(summary, best)]
        highlights = list(itertools.islice(items(scores, shown), SCREENFUL))
        page = reports.Page(scores, [t for t in tables if t], {}, highlights, count)
        reports.write_report(Path(folder) / "report.html", page)
        seconds = time.perf_counter() - start
        page_bytes = (Path(folder) / "report.html").stat().st_size
        index_bytes = (gallery / INDEX).stat().st_size
        chunks = sorted(path.stat().st_size for path in gallery.glob("chunk-*.js"))
    loaded = page_bytes + index_bytes + sum(chunks[-SCREENFUL:])
    whole = page_bytes + index_bytes + sum(chunks)
    print(f"{count} triplets, {len(labels)} rows, written in {seconds:.0f} s")
    for name, size in (
        ("page", page_bytes),
        ("index", index_bytes),
        (f"a chunk of {CHUNK}, the largest", chunks[-1]),
        ("loaded to see the first screenful", loaded),
        ("all of it", whole),
    ):
        print(f"{name:36} {size / 1e6:9.2f} MB")
    print(f"{'over all of it':36} {loaded / whole:9.4f}")


if __name__ == "__main__":
    main()
