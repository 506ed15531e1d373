"""Triplets from an instances file of MSCOCO's format (paper, sec. 4.2)."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from profi.data.coco_faults import faults_of, shown
from profi.data.manifest import Candidates
from profi.data.masks import hull_area, hull_mask, hull_of, mask_rle
from profi.settings.evaluation import OURS, Evaluation
from profi.types import Triplet, UserError

CROWD = "crowd"
RUN_LENGTH = "run-length mask"
NO_MASK = "nothing in the picture"
SMALL = "hull below min_area"


def read_coco(
    annotations: Path,
    min_area: float = 1.0,
    evaluation: Evaluation = OURS,
    holes_apart: bool = False,
) -> Candidates:
    """One triplet per instance: its image, the hull of its polygons, its category's name.

    The triplets are sorted by image id; those of one image keep the file's order. This is the
    order of the released list; `evaluation.order` is applied later.

    Args:
        annotations: an instances JSON in MSCOCO's format.
        min_area: smallest area of a hull, in square pixels.
        evaluation: the rules for hulls, crowds and names.
        holes_apart: a mask is the hulls of an instance's polygons, not the hull of all of them.

    Raises:
        UserError: the file is missing, is not an instances file, or refers to missing entries.
    """
    with _explained(annotations):
        coco = _load(annotations)
        found: list[Triplet | str] = []
        for image_id in sorted(coco.imgToAnns):
            polygons = _polygons_of(coco, image_id)
            of_image = [
                _candidate(coco, a, i, min_area, evaluation) for i, a in enumerate(polygons)
            ]
            if holes_apart:
                of_image = [
                    _apart(one, a["segmentation"], evaluation) if isinstance(one, Triplet) else one
                    for one, a in zip(of_image, polygons, strict=True)
                ]
            found += of_image
            found += [RUN_LENGTH] * (len(coco.imgToAnns[image_id]) - len(polygons))
    return _candidates(annotations, found)


def read_listed(
    annotations: Path,
    rows: Sequence[tuple[int, int]],
    n_images: int,
    evaluation: Evaluation = OURS,
) -> Candidates:
    """The triplets of a list's rows, in the list's order, with hulls of any area.

    Args:
        annotations: the instances JSON that the list refers to.
        rows: (index into the file's image ids in ascending order, index into that image's
            polygon annotations in the file's order, crowds included), both from 0.
        n_images: the number of images in that file.
        evaluation: the rules for hulls, crowds and names.

    Raises:
        UserError: as `read_coco`; also when the file has too few images or annotations for the
            list, or another number of images.
    """
    with _explained(annotations):
        coco = _load(annotations)
        remedy = (
            "the list belongs to the whole instances_val2017.json: set data.annotations to it, or "
            "data.sample=seeded"
        )
        if len(coco.imgs) != n_images:
            raise UserError(
                f"data.sample=released: {annotations} has {len(coco.imgs)} images, not "
                f"{n_images}; {remedy}"
            )
        image_ids = sorted(coco.imgs)
        found = []
        for number, (image, segment) in enumerate(rows, start=1):
            if not 0 <= image < n_images:
                raise UserError(
                    f"data.sample=released: row {number} names image {image}, but {annotations} "
                    f"has {n_images} images; {remedy}"
                )
            polygons = _polygons_of(coco, image_ids[image])
            if not 0 <= segment < len(polygons):
                raise UserError(
                    f"data.sample=released: row {number} names polygon annotation {segment}, but "
                    f"image {image_ids[image]} has {len(polygons)} in {annotations}; {remedy}"
                )
            found.append(_candidate(coco, polygons[segment], segment, 0.0, evaluation))
    return _candidates(annotations, found)


def open_coco(annotations: Path) -> COCO:
    """Open an annotation file with pycocotools.

    Raises:
        UserError: the file is missing or is not JSON in MSCOCO's format.
    """
    with _explained(annotations):
        return _load(annotations)


@contextlib.contextmanager
def _explained(annotations: Path) -> Iterator[None]:
    """Turn the errors of reading a file with another structure into one UserError."""
    try:
        yield
    # JSON that cannot be parsed, or that has another structure.
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        AssertionError,
        OverflowError,
        RecursionError,
    ) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise UserError(
            f"{annotations} is not an instances JSON in MSCOCO's format ({reason}): "
            "set data.annotations to one"
        ) from error


def _load(annotations: Path) -> COCO:
    if not annotations.is_file():
        raise UserError(f"{annotations} does not exist: set data.annotations to an instances JSON")
    document = json.loads(annotations.read_bytes())
    faults = faults_of(document)
    if faults:
        raise UserError(f"{annotations}: {shown(faults)}: mend or remove them")
    coco = COCO()
    coco.dataset = document
    # pycocotools reports its progress by print.
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def has_polygons(annotation: Mapping[str, Any]) -> bool:
    """Whether an instance has polygons, not a run-length mask."""
    return isinstance(annotation["segmentation"], list)


def is_crowd(annotation: Mapping[str, Any]) -> bool:
    """Whether an instance is marked as a crowd."""
    return bool(annotation.get("iscrowd", 0))


def _polygons_of(coco: COCO, image_id: int) -> list[dict[str, Any]]:
    """An image's polygon annotations in the file's order; the list's second index refers to it."""
    return [annotation for annotation in coco.imgToAnns[image_id] if has_polygons(annotation)]


def _candidate(
    coco: COCO, annotation: Mapping[str, Any], segment: int, min_area: float, rules: Evaluation
) -> Triplet | str:
    """The triplet of polygon annotation number `segment` of its image, or why it is left out."""
    if is_crowd(annotation) and rules.crowds == "left_out":
        return CROWD
    image = coco.imgs[annotation["image_id"]]
    height, width = int(image["height"]), int(image["width"])
    hull = hull_of(annotation["segmentation"], rules.hull)
    if hull is None or not _is_seen(hull, height, width, rules):
        return NO_MASK
    if hull_area(hull) < min_area:
        return SMALL
    image_id, annotation_id = int(image["id"]), int(annotation["id"])
    listed = rules.order == "list"
    return Triplet(
        triplet_id=f"{image_id}_{segment}" if listed else f"{image_id:012d}-{annotation_id}",
        image_id=image_id,
        annotation_id=annotation_id,
        category_id=int(annotation["category_id"]),
        prompt=str(coco.cats[annotation["category_id"]]["name"]),
        file_name=str(image["file_name"]),
        height=height,
        width=width,
        hull=hull,
        filling=rules.hull,
    )


def _apart(triplet: Triplet, polygons: Sequence[Sequence[float]], rules: Evaluation) -> Triplet:
    """The triplet with the mask of every polygon's own hull; one polygon changes nothing."""
    hulls = [hull_of([polygon], rules.hull) for polygon in polygons]
    masks = [
        hull_mask(hull, triplet.height, triplet.width, rules.hull)
        for hull in hulls
        if hull is not None
    ]
    if len(masks) < 2:
        return triplet
    return replace(triplet, hull=(), rle=mask_rle(np.logical_or.reduce(masks)))


def _is_seen(hull: Sequence[float], height: int, width: int, rules: Evaluation) -> bool:
    """Whether the hull has at least one pixel in the image."""
    x, y = hull[::2], hull[1::2]
    if min(x) >= 0 and min(y) >= 0 and max(x) < width and max(y) < height:
        return True
    return bool(hull_mask(hull, height, width, rules.hull).any())


def _candidates(annotations: Path, found: Iterable[Triplet | str]) -> Candidates:
    triplets: list[Triplet] = []
    skipped: Counter[str] = Counter()
    for item in found:
        if isinstance(item, Triplet):
            triplets.append(item)
        else:
            skipped[item] += 1
    if not triplets:
        raise UserError(f"{annotations} has no usable instance ({dict(skipped)})")
    return Candidates(tuple(triplets), dict(skipped))
