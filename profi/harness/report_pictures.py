"""The pictures and failures of a report, read from the stores."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import pandas as pd

from profi.data.masks import triplet_mask
from profi.data.pictures import load_image
from profi.harness.run_status import Entry, RunStatus, pictures
from profi.harness.score import decode
from profi.reports import Failure, GalleryItem
from profi.reports.gallery import Painted
from profi.reports.names import RowKey, row_labels
from profi.reports.thumbnails import outlined, thumbnail
from profi.types import Triplet, UserError

log = logging.getLogger(__name__)

# Triplets in memory at a time; several parts of them, so that each part is read about once.
_SLICE = 64


def standing_failures(
    statuses: Mapping[Entry, RunStatus], scores: pd.DataFrame, labels: Mapping[RowKey, str]
) -> list[Failure]:
    """The quarantined failures that no later command repaired.

    A failed painting counts while the triplet has no image, a failed score while it is NaN.
    """
    unscored = scores[scores["value"].isna()]
    nan = set(zip(unscored["run_id"], unscored["metric"], unscored["triplet_id"], strict=True))
    failures = []
    for entry, status in statuses.items():
        for line in status.failed:
            name, stage = line["triplet_id"], line["stage"]
            _, scored, metric = stage.partition("score ")
            if scored:
                stands = (entry.run.run_id, metric, name) in nan
            else:
                stands = name in status.triplets and name not in status.part_of
            if stands:
                failures.append(Failure(labels[entry.key], entry.seed, name, stage, line["reason"]))
    return failures


def gallery_items(
    reasons: Mapping[str, str],
    seed: int,
    statuses: Mapping[Entry, RunStatus],
    scores: pd.DataFrame,
    failures: Sequence[Failure],
    data_root: Path,
    others: Sequence[int] = (),
) -> Iterator[GalleryItem]:
    """The chosen triplets in the manifest's order, with thumbnails of their pictures.

    If the image before painting is missing, the item lacks only this picture.

    Args:
        reasons: triplet id to the reason for showing it.
        seed: the seed of the runs to show first.
        statuses: of all runs of the report.
        scores: the long table.
        failures: shown with their triplets, for every seed.
        data_root: the images' folder.
        others: the other seeds to show.
    """
    labels = row_labels(entry.key for entry in statuses)
    seeds = (seed, *others)
    shown = {entry: status for entry, status in statuses.items() if entry.seed in seeds}
    triplets: dict[str, Triplet] = {}
    for status in statuses.values():
        triplets |= status.triplets
    values = {one: _values(scores[scores["seed"] == one]) for one in seeds}
    notes: dict[str, list[str]] = {}
    for failure in failures:
        text = f"{failure.row}, seed {failure.seed}, {failure.stage}: {failure.reason}"
        notes.setdefault(failure.triplet_id, []).append(text)
    for names in _slices((name for name in triplets if name in reasons), _SLICE):
        chosen = set(names)
        painted = {entry: pictures(entry, status, chosen) for entry, status in shown.items()}
        for name in names:
            of_seeds = {one: _painted(name, one, painted, values[one], labels) for one in seeds}
            outputs, captions = of_seeds.pop(seed)
            yield GalleryItem(
                name,
                triplets[name].prompt,
                _masked(data_root, triplets[name]),
                outputs,
                captions,
                reasons[name],
                tuple(notes.get(name, ())),
                of_seeds,
            )


def _painted(
    name: str,
    seed: int,
    painted: Mapping[Entry, Mapping[str, bytes]],
    values: Mapping[tuple[RowKey, str], Mapping[str, float]],
    labels: Mapping[RowKey, str],
) -> Painted:
    """A triplet's thumbnails and scores of one seed, in the rows' order."""
    of_seed = {labels[entry.key]: entry for entry in painted if entry.seed == seed}
    rows = [label for label in labels.values() if label in of_seed]
    outputs = {
        label: thumbnail(decode(painted[of_seed[label]][name]))
        for label in rows
        if name in painted[of_seed[label]]
    }
    return Painted(outputs, {label: values.get((of_seed[label].key, name), {}) for label in rows})


def _masked(data_root: Path, triplet: Triplet) -> bytes:
    try:
        image = load_image(data_root, triplet)
    except UserError as error:
        log.warning("left out of the gallery: %s", error)
        return b""
    return thumbnail(outlined(image, triplet_mask(triplet)))


def _values(scores: pd.DataFrame) -> dict[tuple[RowKey, str], dict[str, float]]:
    """The scores of each image by metric; `scores` are of one seed."""
    found: dict[tuple[RowKey, str], dict[str, float]] = {}
    columns = ["model", "ablation", "reading", "triplet_id", "metric", "value"]
    for model, ablation, reading, name, metric, value in scores[columns].itertuples(index=False):
        key = RowKey(str(model), str(ablation), str(reading)), str(name)
        found.setdefault(key, {})[str(metric)] = math.nan if value is None else float(value)
    return found


def _slices(names: Iterable[str], size: int) -> Iterator[list[str]]:
    source = iter(names)
    return iter(lambda: list(islice(source, size)), [])
