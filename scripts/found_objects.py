"""How much painted objects look like real ones: their Fréchet distance in CLIP's features.

    python scripts/found_objects.py outputs/<run id> [...] [--count 1000] [--csv FILE]

Of the runs' paintings those count in which the detector finds the label. The crops that the metrics
see (the mask's box) are compared with the same crops of the original images, as many of them, drawn
by a fixed order. The last column, real against other real crops, is what the number of samples
alone gives. Features are CLIP's normalised image embeddings.

Validation scenes show other sprites than the model has learned, and it can paint only those. So
`--scenes train` compares with crops of fresh scenes of the training sprites in place of originals.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from profi.data.coco import read_coco
from profi.data.manifest import read_manifest
from profi.data.masks import triplet_mask
from profi.data.pictures import load_image
from profi.harness.run_folder import RunFolder, evaluation_of_run
from profi.harness.score import decode, painted_mask
from profi.metrics import GenerationAccuracy, Sample, TransformersDetector
from profi.metrics.clip_encoder import ClipEncoder
from profi.metrics.functional import bounding_box, crop, frechet_distance, pad_to_square
from profi.mini.scenes import SceneSampler, SpriteSheet
from profi.mini.world import world
from profi.models.devices import silence_libraries
from profi.settings import shipped_path
from profi.store.generations import read_generations
from profi.types import UserError

BATCH = 64


def found_crops(run: Path, metric: GenerationAccuracy) -> list[np.ndarray]:
    """The crops of the run's paintings in which the label is found."""
    triplets = {t.triplet_id: t for t in read_manifest(run / "manifest.parquet")}
    evaluation = evaluation_of_run(RunFolder(run))
    crops: list[np.ndarray] = []
    batch: list[Sample] = []

    def take() -> None:
        for sample, value in zip(batch, metric(batch), strict=True):
            if value == 100:
                crops.append(crop(sample.image, bounding_box(sample.mask)))
        batch.clear()

    for item in read_generations(run / "generations"):
        image = decode(item.image)
        triplet = triplets[item.triplet_id]
        mask = painted_mask(triplet_mask(triplet), image.shape[:2], evaluation)
        batch.append(Sample(image, mask, triplet.prompt))
        if len(batch) == BATCH:
            take()
    if batch:
        take()
    return crops


def real_crops(annotations: Path, root: Path) -> list[np.ndarray]:
    """The crops of all instances, in an order drawn by their ids."""
    triplets = read_coco(annotations, 1.0).triplets
    ordered = sorted(triplets, key=lambda t: hashlib.sha256(t.triplet_id.encode()).digest())
    return [crop(load_image(root, t), bounding_box(triplet_mask(t))) for t in ordered]


def training_crops(count: int, seed: int = 0) -> list[np.ndarray]:
    """`count` crops of the objects in fresh scenes with the training sprites."""
    size = world("cpu")
    sampler = SceneSampler(size, SpriteSheet.load(size, "train"))
    generator = torch.Generator().manual_seed(seed)
    crops: list[np.ndarray] = []
    while len(crops) < count:
        scenes = sampler.sample(BATCH, generator)
        images = (scenes.image.permute(0, 2, 3, 1) * 255).round().byte().numpy()
        for image, masks in zip(images, scenes.masks.numpy(), strict=True):
            crops += [crop(image, bounding_box(mask)) for mask in masks if mask.any()]
    return crops[:count]


def features(encoder: ClipEncoder, crops: Sequence[np.ndarray]) -> np.ndarray:
    """[N, D], each of length 1."""
    embedded = encoder.embed_squares([pad_to_square(one) for one in crops]).double().numpy()
    return np.asarray(embedded / np.linalg.norm(embedded, axis=1, keepdims=True))


def main() -> None:
    """Print a line per run and one for all, and write the same as CSV."""
    parser = argparse.ArgumentParser(description="Fréchet distance of found objects to real ones")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=1000, help="crops on each side, at most")
    parser.add_argument("--detector", default="shipped:cpu/detector")
    parser.add_argument("--clip", default="shipped:cpu/clip")
    parser.add_argument("--annotations", default="shipped:cpu/data/instances_val.json")
    parser.add_argument("--root", default="shipped:cpu/data/images")
    parser.add_argument("--scenes", choices=("originals", "train"), default="originals")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    silence_libraries()
    metric = GenerationAccuracy(
        TransformersDetector.from_pretrained(str(shipped_path(options.detector)))
    )
    encoder = ClipEncoder.from_pretrained(str(shipped_path(options.clip)), "--clip")
    annotations, root = shipped_path(options.annotations), shipped_path(options.root)
    if options.scenes == "train":
        real = features(encoder, training_crops(2 * options.count))
    else:
        real = features(encoder, real_crops(annotations, root))
    groups = {run.name: features(encoder, found_crops(run, metric)) for run in options.runs}
    if len(groups) > 1:
        groups["all"] = np.concatenate(list(groups.values()))
    rows = []
    for name, found in groups.items():
        n = min(options.count, len(found), len(real))
        half = min(n, len(real) // 2)
        rows.append(
            {
                "run": name,
                "scenes": options.scenes,
                "crops": n,
                "frechet": frechet_distance(found[:n], real[:n]),
                "crops_of_a_half": half,
                "frechet_of_halves": frechet_distance(real[:half], real[half : 2 * half]),
            }
        )
        print(
            f"{name}: {n} found against {n} real crops {rows[-1]['frechet']:.4f}; "
            f"{half} real against {half} real {rows[-1]['frechet_of_halves']:.4f}"
        )
    if options.csv:
        pd.DataFrame(rows).to_csv(options.csv, index=False, lineterminator="\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
