"""The pictures of a report: read from the stores, a slice of the triplets in memory at a time."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import pandas as pd

from profi.data.images import load_image
from profi.data.masks import triplet_mask
from profi.harness.run_status import Entry, Survey, pictures
from profi.harness.score import decode
from profi.reports import Failure, GalleryItem
from profi.reports.figures import outlined, thumbnail
from profi.reports.names import RowKey, row_labels
from profi.types import Triplet, UserError

log = logging.getLogger(__name__)

# Triplets whose pictures are in memory together; several parts, so that each is read about once.
_SLICE = 64


def standing_failures(
    surveys: Mapping[Entry, Survey], scores: pd.DataFrame, labels: Mapping[RowKey, str]
) -> list[Failure]:
    """What is in the quarantines and was not mended since.

    A failed painting stands while the triplet is not painted, a failed score while it is NaN.
    """
    unscored = scores[scores["value"].isna()]
    nan = set(zip(unscored["run_id"], unscored["metric"], unscored["triplet_id"], strict=True))
    failures = []
    for entry, surveyed in surveys.items():
        for line in surveyed.failed:
            name, stage = line["triplet_id"], line["stage"]
            _, scored, metric = stage.partition("score ")
            if scored:
                stands = (entry.run.run_id, metric, name) in nan
            else:
                stands = name in surveyed.triplets and name not in surveyed.part_of
            if stands:
                failures.append(Failure(labels[entry.key], entry.seed, name, stage, line["reason"]))
    return failures


def gallery_items(
    wanted: Mapping[str, str],
    seed: int,
    surveys: Mapping[Entry, Survey],
    scores: pd.DataFrame,
    failures: Sequence[Failure],
    data_root: Path,
) -> Iterator[GalleryItem]:
    """The wanted triplets in the manifest's order, painted with `seed`, reduced for the page.

    A triplet whose image is not at hand lacks that picture alone.

    Args:
        wanted: triplet id to the reason for showing it.
        seed: of the run.
        surveys: of all runs of the report.
        scores: the long table.
        failures: noted with the triplets they are of, whatever their seed.
        data_root: the images' folder.
    """
    labels = row_labels(entry.key for entry in surveys)
    shown = {entry: surveyed for entry, surveyed in surveys.items() if entry.seed == seed}
    triplets: dict[str, Triplet] = {}
    for surveyed in surveys.values():
        triplets |= surveyed.triplets
    values = _values(scores[scores["seed"] == seed])
    notes: dict[str, list[str]] = {}
    for failure in failures:
        text = f"{failure.row}, seed {failure.seed}, {failure.stage}: {failure.reason}"
        notes.setdefault(failure.triplet_id, []).append(text)
    for names in _slices((name for name in triplets if name in wanted), _SLICE):
        here = set(names)
        painted = {entry: pictures(entry, surveyed, here) for entry, surveyed in shown.items()}
        for name in names:
            outputs = {
                labels[entry.key]: thumbnail(decode(images[name]))
                for entry, images in painted.items()
                if name in images
            }
            yield GalleryItem(
                name,
                triplets[name].prompt,
                _masked(data_root, triplets[name]),
                {label: outputs[label] for label in labels.values() if label in outputs},
                {labels[entry.key]: values.get((entry.key, name), {}) for entry in shown},
                wanted[name],
                tuple(notes.get(name, ())),
            )


def _masked(data_root: Path, triplet: Triplet) -> bytes:
    try:
        image = load_image(data_root, triplet)
    except UserError as error:
        log.warning("left out of the gallery: %s", error)
        return b""
    return thumbnail(outlined(image, triplet_mask(triplet)))


def _values(scores: pd.DataFrame) -> dict[tuple[RowKey, str], dict[str, float]]:
    """An image's scores by metric, of one seed."""
    found: dict[tuple[RowKey, str], dict[str, float]] = {}
    columns = ["model", "ablation", "reading", "triplet_id", "metric", "value"]
    for model, ablation, reading, name, metric, value in scores[columns].itertuples(index=False):
        key = RowKey(str(model), str(ablation), str(reading)), str(name)
        found.setdefault(key, {})[str(metric)] = math.nan if value is None else float(value)
    return found


def _slices(names: Iterable[str], size: int) -> Iterator[list[str]]:
    source = iter(names)
    return iter(lambda: list(islice(source, size)), [])
