"""How a painting neglects its prompt: the paper's two failures (sec. 1, fig. 5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from profi.data.coco import read_coco
from profi.data.masks import triplet_mask
from profi.figures.context import FigureContext
from profi.figures.drawing import Pick
from profi.figures.pool import Pool
from profi.metrics import Detection
from profi.metrics.functional import bounding_box, crop
from profi.reports.names import RowKey
from profi.settings import shipped_path
from profi.types import Triplet, UserError

FOUND, BACKGROUND, NEARBY, OTHER = KINDS = (
    "found",
    "background dominance",
    "nearby-object dominance",
    "other",
)
#: How the kinds are distinguished, for captions.
DEFINITIONS = (
    "A painting in which the detector does not find the label is background dominance if nothing "
    "is detected with its centre in the mask, and nearby-object dominance if an object of a "
    "category that the known part of the scene shows is."
)


def kind_of(
    triplet: Triplet,
    mask: np.ndarray,
    detections: Sequence[Detection],
    known: set[int],
    threshold: float,
) -> str:
    """Which of KINDS a painting is.

    Args:
        triplet: what was to be painted.
        mask: the painted mask, bool [H, W].
        detections: in the crop of the mask's bounding box.
        known: the categories of the scene's other objects, see `known_categories`.
        threshold: a detection counts if its score is above.
    """
    seen = [d for d in detections if d.score > threshold]
    if any(d.category_id == triplet.category_id for d in seen):
        return FOUND
    box = bounding_box(mask)
    inside = set()
    for d in seen:
        x, y = (d.box[0] + d.box[2]) / 2 + box.left, (d.box[1] + d.box[3]) / 2 + box.top
        if mask[min(int(y), mask.shape[0] - 1), min(int(x), mask.shape[1] - 1)]:
            inside.add(d.category_id)
    if not inside:
        return BACKGROUND
    return NEARBY if inside & known else OTHER


def scenes_of(instances: Iterable[Triplet]) -> dict[int, list[Triplet]]:
    """All objects by their scene's image id."""
    scenes: dict[int, list[Triplet]] = {}
    for instance in instances:
        scenes.setdefault(instance.image_id, []).append(instance)
    return scenes


def known_categories(triplet: Triplet, scene: Iterable[Triplet]) -> set[int]:
    """The categories, without its own, that the scene shows outside the triplet's mask.

    An object counts if at least a third of its hull lies outside.
    """
    own = triplet_mask(triplet)
    found = set()
    for other in scene:
        hull = triplet_mask(other)
        if other.category_id is not None and (hull & ~own).sum() >= hull.sum() / 3:
            found.add(other.category_id)
    return found - {triplet.category_id}


def kinds(context: FigureContext, pool: Pool, row: RowKey) -> Mapping[Pick, str]:
    """The kind of every painting of a row.

    UserError if the scenes' objects are not known.
    """
    scenes = scenes_of(_instances(context))
    unknown = {t.image_id for t in pool.triplets.values()} - scenes.keys()
    if unknown:
        raise UserError(
            f"figure {context.name} needs all objects of the scenes, and figure.scenes (or "
            f"data.annotations) lacks image {min(unknown)}: set it to the images' instances"
        )
    detector, threshold = context.detector, context.config.metric.accuracy.threshold
    found = {}
    for pick, image in pool.pictures(row, pool.picks).items():
        triplet = pool.triplets[pick.triplet_id]
        mask = pool.mask(pick, image.shape[:2])
        (detections,) = detector.detect([crop(image, bounding_box(mask))])
        known = known_categories(triplet, scenes.get(triplet.image_id, ()))
        found[pick] = kind_of(triplet, mask, detections, known, threshold)
    return found


def _instances(context: FigureContext) -> Sequence[Triplet]:
    text = context.config.figure.scenes or context.config.data.annotations
    path = shipped_path(text) if text else None
    if path is None or not Path(path).is_file():
        raise UserError(
            f"figure {context.name} needs all objects of the scenes: set figure.scenes to their "
            f"instances JSON{'' if path is None else f' ({path} does not exist)'}"
        )
    return read_coco(path, 1.0, context.config.evaluation).triplets
