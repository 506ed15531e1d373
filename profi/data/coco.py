"""Triplets from an instances file of MSCOCO's format (paper, sec. 4.2)."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

from profi.data.hulls import hull_area, hull_mask, hull_of
from profi.data.manifest import Candidates
from profi.settings.evaluation import OURS, Evaluation
from profi.types import Triplet, UserError

CROWD = "crowd"
RUN_LENGTH = "run-length mask"
NO_MASK = "nothing in the picture"
SMALL = "hull below min_area"


def read_coco(
    annotations: Path, min_area: float = 1.0, evaluation: Evaluation = OURS
) -> Candidates:
    """One triplet per instance: its image, the hull of its polygons, its category's name.

    They have the released list's order (`evaluation.order` decides what is made of it): by image
    ids, those of one image as in the file.

    Args:
        annotations: an instances JSON of MSCOCO's format.
        min_area: of the hull, in square pixels.
        evaluation: the rules for hulls, crowds and names.

    Raises:
        UserError: the file is missing, is no instances file, or refers to what it does not hold.
    """
    with _explained(annotations):
        coco = _load(annotations)
        found: list[Triplet | str] = []
        for image_id in sorted(coco.imgToAnns):
            polygons = _polygons_of(coco, image_id)
            found += [_candidate(coco, a, i, min_area, evaluation) for i, a in enumerate(polygons)]
            found += [RUN_LENGTH] * (len(coco.imgToAnns[image_id]) - len(polygons))
    return _candidates(annotations, found)


def read_listed(
    annotations: Path,
    rows: Sequence[tuple[int, int]],
    n_images: int,
    evaluation: Evaluation = OURS,
) -> Candidates:
    """The triplets of a list's rows, in its order, whatever their hulls' areas.

    Args:
        annotations: the instances JSON that the list refers to.
        rows: (index into the file's image ids in ascending order, index into that image's
            polygon annotations in the file's order, crowds among them), both from 0.
        n_images: how many images that file holds.
        evaluation: the rules for hulls, crowds and names.

    Raises:
        UserError: as `read_coco`; a file of another number of images or annotations than the
            list's.
    """
    with _explained(annotations):
        coco = _load(annotations)
        remedy = (
            "the list belongs to the whole instances_val2017.json: set data.annotations to it, or "
            "data.sample=seeded"
        )
        if len(coco.imgs) != n_images:
            raise UserError(
                f"data.sample=released: {annotations} holds {len(coco.imgs)} images and not "
                f"{n_images}; {remedy}"
            )
        image_ids = sorted(coco.imgs)
        found = []
        for number, (image, segment) in enumerate(rows, start=1):
            if not 0 <= image < n_images:
                raise UserError(
                    f"data.sample=released: row {number} asks for image {image} of the "
                    f"{n_images} in {annotations}; {remedy}"
                )
            polygons = _polygons_of(coco, image_ids[image])
            if not 0 <= segment < len(polygons):
                raise UserError(
                    f"data.sample=released: row {number} asks for polygon annotation {segment} "
                    f"and image {image_ids[image]} has {len(polygons)} in {annotations}; {remedy}"
                )
            found.append(_candidate(coco, polygons[segment], segment, 0.0, evaluation))
    return _candidates(annotations, found)


def open_coco(annotations: Path) -> COCO:
    """pycocotools' view of an annotation file.

    Raises:
        UserError: it is missing or no JSON of MSCOCO's format.
    """
    with _explained(annotations):
        return _load(annotations)


@contextlib.contextmanager
def _explained(annotations: Path) -> Iterator[None]:
    """Whatever a file of another structure does to a reader becomes one line."""
    try:
        yield
    # JSON that cannot be parsed, or that is another structure.
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise UserError(
            f"{annotations} is no instances JSON of MSCOCO's format ({reason}): "
            "set data.annotations to one"
        ) from error


def _load(annotations: Path) -> COCO:
    if not annotations.is_file():
        raise UserError(f"{annotations} does not exist: set data.annotations to an instances JSON")
    # pycocotools reports its progress by print.
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(annotations))
    # pycocotools keeps the last of several instances of one id.
    if len(coco.anns) != len(coco.dataset.get("annotations", [])):
        raise UserError(f"{annotations}: two instances share an annotation id; mend the file")
    return coco


def has_polygons(annotation: Mapping[str, Any]) -> bool:
    """Whether an instance is outlined by polygons and not by a run-length mask."""
    return isinstance(annotation["segmentation"], list)


def is_crowd(annotation: Mapping[str, Any]) -> bool:
    """Whether an instance is marked as a crowd."""
    return bool(annotation.get("iscrowd", 0))


def _polygons_of(coco: COCO, image_id: int) -> list[dict[str, Any]]:
    """An image's polygon annotations in the file's order: what the list's second index counts."""
    return [annotation for annotation in coco.imgToAnns[image_id] if has_polygons(annotation)]


def _candidate(
    coco: COCO, annotation: Mapping[str, Any], segment: int, min_area: float, rules: Evaluation
) -> Triplet | str:
    """The triplet of a polygon annotation, its image's `segment`-th; or why there is none."""
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


def _is_seen(hull: Sequence[float], height: int, width: int, rules: Evaluation) -> bool:
    """Whether a hull has a pixel in the picture."""
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
        raise UserError(f"{annotations} holds no usable instance ({dict(skipped)})")
    return Candidates(tuple(triplets), dict(skipped))
