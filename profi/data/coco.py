"""Triplets from an instances file of MSCOCO's format (paper, sec. 4.2)."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

from profi.data.hulls import convex_hull, hull_area
from profi.types import Triplet, UserError

CROWD = "crowd or run-length mask"
DEGENERATE = "degenerate polygon"
SMALL = "hull below min_area"


@dataclass(frozen=True)
class Candidates:
    """All triplets of a file, and how many instances were left out, by reason."""

    triplets: tuple[Triplet, ...]
    skipped: Mapping[str, int]


def read_coco(annotations: Path, min_area: float = 1.0) -> Candidates:
    """One triplet per instance: its image, the hull of its polygons, its category's name.

    Args:
        annotations: an instances JSON of MSCOCO's format.
        min_area: of the hull, in square pixels.

    Raises:
        UserError: the file is missing, is no instances file, or refers to what it does not hold.
    """
    if not annotations.is_file():
        raise UserError(f"{annotations} does not exist: set data.annotations to an instances JSON")
    try:
        # pycocotools reports its progress by print.
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(str(annotations))
        # pycocotools keeps the last of several instances of one id.
        if len(coco.anns) != len(coco.dataset.get("annotations", [])):
            raise UserError(f"{annotations}: two instances share an annotation id; mend the file")
        found = [_candidate(coco, annotation, min_area) for annotation in coco.anns.values()]
    # JSON that cannot be parsed, or that is another structure.
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise UserError(
            f"{annotations} is no instances JSON of MSCOCO's format ({reason}): "
            "set data.annotations to one"
        ) from error
    triplets = tuple(item for item in found if isinstance(item, Triplet))
    skipped = Counter(item for item in found if isinstance(item, str))
    if not triplets:
        raise UserError(f"{annotations} holds no usable instance ({dict(skipped)})")
    return Candidates(triplets, dict(skipped))


def _candidate(coco: COCO, annotation: Mapping[str, Any], min_area: float) -> Triplet | str:
    """The instance's triplet, or why there is none."""
    polygons = annotation["segmentation"]
    if annotation.get("iscrowd", 0) or not isinstance(polygons, list):
        return CROWD
    image = coco.imgs[annotation["image_id"]]
    height, width = int(image["height"]), int(image["width"])
    hull = convex_hull(polygons, height, width)
    if hull is None:
        return DEGENERATE
    if hull_area(hull) < min_area:
        return SMALL
    image_id, annotation_id = int(image["id"]), int(annotation["id"])
    return Triplet(
        triplet_id=f"{image_id:012d}-{annotation_id}",
        image_id=image_id,
        annotation_id=annotation_id,
        category_id=int(annotation["category_id"]),
        prompt=str(coco.cats[annotation["category_id"]]["name"]),
        file_name=str(image["file_name"]),
        height=height,
        width=width,
        hull=hull,
    )


def sample_triplets(
    triplets: Iterable[Triplet], limit: int | None, seed: int
) -> tuple[Triplet, ...]:
    """A sample without replacement that depends on the ids and the seed alone.

    The triplets are ordered by the hexadecimal SHA-256 of the text "<seed>:<annotation id>"; the
    first `limit` are the sample, in that order (None: all of them). So neither the order of the
    file nor a version of any library matters, and a smaller sample is the start of a larger one.

    Raises:
        UserError: fewer than `limit` triplets.
    """
    ordered = sorted(triplets, key=lambda triplet: _rank(triplet, seed))
    if limit is not None and limit > len(ordered):
        raise UserError(
            f"data.limit={limit}: there are only {len(ordered)} usable instances; lower it"
        )
    return tuple(ordered[:limit])


def _rank(triplet: Triplet, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{triplet.annotation_id}".encode()).hexdigest()


def parts(triplets: Sequence[Triplet], size: int) -> list[tuple[Triplet, ...]]:
    """The fixed slices of a manifest: units of work that depend on nothing but their place."""
    return [tuple(triplets[start : start + size]) for start in range(0, len(triplets), size)]
