"""Faults of an instances file of MSCOCO's format, each named by its entry."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from profi.types import is_text

#: A fault: what is wrong, with the entry's name.
Fault = str
SHOWN = 3


def faults_of(document: Mapping[str, Any]) -> list[Fault]:
    """All faults; an entry that lacks only `file_name` gets it from its `coco_url`, as LVIS has.

    A file without categories, such as MSCOCO's captions, needs no outlines. Raises KeyError or
    TypeError if the document is not made of lists.
    """
    images, categories = document["images"], document.get("categories", [])
    faults = [*_of_entries("image", images), *_of_entries("category", categories)]
    for image in images:
        if not image.get("file_name"):
            if not image.get("coco_url"):
                faults.append(f"image {image.get('id')}: no file_name")
            else:
                image["file_name"] = PurePosixPath(str(image["coco_url"])).name
        if not is_text(str(image.get("file_name"))):
            faults.append(f"image {image.get('id')}: its name {image['file_name']!a} is no text")
        for side in ("height", "width"):
            if not _is_whole(image.get(side)) or image[side] < 1:
                faults.append(f"image {image.get('id')}: {side} is {image.get(side)!r}")
    for category in categories:
        if not isinstance(category.get("name"), str) or not category["name"].strip():
            faults.append(f"category {category.get('id')}: its name is {category.get('name')!r}")
        elif not is_text(category["name"]):
            faults.append(
                f"category {category.get('id')}: its name {category['name']!a} is no text"
            )
    annotations = document["annotations"]
    faults += _of_entries("annotation", annotations)
    known = {"image_id": _ids(images)}
    outlined = "categories" in document
    if outlined:
        known["category_id"] = _ids(categories)
    for annotation in annotations:
        name = f"annotation {annotation.get('id')}"
        faults += [f"{name}: {fault}" for fault in _of(annotation, known, outlined)]
    return faults


def shown(faults: list[Fault]) -> str:
    """The first faults and how many there are."""
    more = f" (and {len(faults) - SHOWN} more)" if len(faults) > SHOWN else ""
    return "; ".join(faults[:SHOWN]) + more


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)


def _ids(entries: list[dict[str, Any]]) -> set[Any]:
    return {entry["id"] for entry in entries if _is_whole(entry.get("id"))}


def _of_entries(kind: str, entries: list[dict[str, Any]]) -> Iterator[Fault]:
    seen: set[Any] = set()
    for number, entry in enumerate(entries, start=1):
        name = entry.get("id")
        if not _is_whole(name):
            yield f"{kind} number {number}: its id is {name!r}, not a whole number"
        elif name in seen:
            yield f"{kind} {name}: two share this {kind} id"
        seen.add(name if _is_whole(name) else None)


def _of(
    annotation: Mapping[str, Any], known: Mapping[str, set[Any]], outlined: bool
) -> Iterator[Fault]:
    for key, ids in known.items():
        if not isinstance(annotation.get(key), int | float) or annotation[key] not in ids:
            yield f"{key} {annotation.get(key)!r} is not in the file"
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, Mapping) or not outlined:
        return
    if not isinstance(segmentation, list):
        yield "no segmentation"
        return
    for polygon in segmentation:
        if not isinstance(polygon, list):
            yield "its segmentation is a flat list; write a list of polygons"
            return
        if len(polygon) % 2:
            yield f"a polygon of {len(polygon)} numbers: they are pairs of x and y"
        elif not all(isinstance(x, int | float) and math.isfinite(x) for x in polygon):
            yield "a polygon with a value that is not a number"
