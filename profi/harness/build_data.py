"""Builds the triplets from the data settings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from profi.catalogue import catalogue, loaded
from profi.data import coco, own_folder, peers
from profi.data.coco2017 import SOURCE, Coco2017, default_cache, read_sample
from profi.data.manifest import Candidates, in_order, sample_triplets
from profi.data.own_folder import IMAGES
from profi.data.pictures import image_path
from profi.harness.progress import byte_meter
from profi.settings import DataConfig, shipped_path
from profi.settings.evaluation import OURS, Evaluation
from profi.types import Triplet, UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataContext:
    """The arguments of a data set's reader; `console` shows the progress of downloads."""

    data: DataConfig
    evaluation: Evaluation = OURS
    console: Console | None = None
    own: Any = None

    def meter(self, name: str) -> Any:
        """The progress of a download."""
        return byte_meter(name, self.console)


def image_root(data: DataConfig) -> Path:
    """The folder with the triplets' images; downloads nothing."""
    images = catalogue.data.get(data.source).images
    return shipped_path(data.root) if images is None else Path(loaded(images)(data))


def images_of_folder(data: DataConfig) -> Path:
    """The images' folder of a user's own set."""
    return shipped_path(data.root) / IMAGES


def images_of_brushbench(data: DataConfig) -> Path:
    """The folder that BrushBench's names start from."""
    return shipped_path(data.root)


def images_of_editbench(data: DataConfig) -> Path:
    """The folder that EditBench's names start from."""
    return shipped_path(data.root)


def images_of_coco(data: DataConfig) -> Path:
    """The images' folder of a file in MSCOCO's format."""
    return shipped_path(data.root)


def images_of_coco2017(data: DataConfig) -> Path:
    """The images' folder of val2017: `data.root`, else the download folder."""
    return shipped_path(data.root) if data.root else _coco2017(data).images


def data_label(data: DataConfig) -> str:
    """The sample in a few words."""
    return f"{data.name}, sample={data.sample}, limit={data.limit}, seed={data.sample_seed}"


def load_triplets(
    data: DataConfig,
    console: Console | None = None,
    evaluation: Evaluation = OURS,
    own: Any = None,
) -> tuple[tuple[Triplet, ...], Candidates]:
    """The sampled triplets and the candidates they are from; downloads what is missing.

    `console` shows the progress of downloads; `evaluation` has the rules for hulls, crowds and
    order; `own` are the own settings of a plugin's data set. With `order=list` the sample is the
    first `data.limit` rows of the list; otherwise `data.sample_seed` draws it.

    Raises:
        UserError: no folder, no annotations, too few instances, a failed download, or most of the
            sampled images are missing (a few may be: they are quarantined when they are read); see
            also `read_coco`, `read_listed` and `read_folder`.
    """
    root = image_root(data)
    if data.root and not root.is_dir():
        raise UserError(f"{root} is not a folder: set data.root to the images' folder")
    read = catalogue.data.get(data.source).load()
    candidates: Candidates = read(DataContext(data, evaluation, console, own))
    triplets = _sampled(data, candidates, evaluation)
    _check_present(root, triplets)
    return triplets, candidates


def _coco2017(data: DataConfig) -> Coco2017:
    cache = Path(data.cache).expanduser() if data.cache else default_cache()
    return Coco2017(cache, SOURCE)


def _sampled(
    data: DataConfig, candidates: Candidates, evaluation: Evaluation
) -> tuple[Triplet, ...]:
    found, limit = candidates.triplets, data.limit
    if data.sample == "released" and limit is not None:
        # The limit counts rows of the list, and some rows give no triplet.
        limit = min(limit, len(found))
    draw = in_order if evaluation.order == "list" else sample_triplets
    return draw(found, limit, data.sample_seed)


def read_folder(context: DataContext) -> Candidates:
    """A user's own set."""
    return own_folder.read_folder(shipped_path(context.data.root))


def read_brushbench(context: DataContext) -> Candidates:
    """BrushBench, in its own layout."""
    return peers.read_brushbench(shipped_path(context.data.root), context.data.brushbench_mask)


def read_editbench(context: DataContext) -> Candidates:
    """EditBench, in its own layout."""
    return peers.read_editbench(shipped_path(context.data.root), context.data.editbench_prompt)


def read_coco(context: DataContext) -> Candidates:
    """The instances of a file in MSCOCO's format."""
    data = context.data
    annotations = shipped_path(data.annotations)
    apart = data.holes == "hull_per_polygon"
    return coco.read_coco(annotations, data.min_area, context.evaluation, apart)


def read_coco2017(context: DataContext) -> Candidates:
    """The instances of val2017, or the published list of them."""
    data, evaluation, meter = context.data, context.evaluation, context.meter
    dataset = _coco2017(data)
    # The small files first, so that their errors show before a long download.
    rows: Sequence[tuple[int, int]] = []
    if data.sample == "released":
        path = Path(data.sample_path).expanduser() if data.sample_path else None
        rows = read_sample(path or dataset.fetched_sample(meter), dataset.source.sample)
        if data.limit is not None and data.limit > len(rows):
            raise UserError(
                f"data.limit={data.limit}: the list has only {len(rows)} rows; lower it"
            )
        if evaluation.order == "list":
            rows = rows[: data.limit]
    annotations = _annotations(data) or dataset.fetched_annotations(meter)
    if data.sample == "released":
        candidates = coco.read_listed(annotations, rows, dataset.source.n_images, evaluation)
    else:
        candidates = coco.read_coco(annotations, data.min_area, evaluation)
    if not data.root:
        dataset.fetched_images(meter)
    return candidates


def _annotations(data: DataConfig) -> Path | None:
    """The local annotations: from the setting, or next to the images as MSCOCO stores them."""
    if data.annotations:
        return shipped_path(data.annotations)
    usual = shipped_path(data.root).parent / "annotations" / "instances_val2017.json"
    return usual if data.root and usual.is_file() else None


def _check_present(root: Path, triplets: Sequence[Triplet]) -> None:
    """UserError if most images are missing; a warning if some are."""
    paths = [image_path(root, triplet) for triplet in triplets]
    missing = [path for path in paths if not path.is_file()]
    if 2 * len(missing) > len(paths):
        raise UserError(
            f"{len(missing)} of the {len(paths)} sampled images are not in {root} "
            f"(such as {missing[0].name}): set data.root to the images' folder"
        )
    if missing:
        log.warning("%d images are missing, such as %s", len(missing), missing[0])
