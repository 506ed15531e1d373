"""MSCOCO's training instances, read from its annotations into arrays, and which files these are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from pycocotools import mask as rle
from torch import Tensor

from profi.data.coco import has_polygons, is_crowd, open_coco
from profi.data.coco2017 import SOURCE, Coco2017, Meter, Source, default_cache, silent
from profi.data.pictures import path_within, read_stored
from profi.download import sha256_of
from profi.settings import shipped_path
from profi.types import UserError

SHOWN = 16  # hex digits of a hash, enough to tell files apart


class CocoFiles(NamedTuple):
    """The pictures' folder, their instances and their captions."""

    root: Path
    annotations: Path
    image_captions: Path


def coco_files(
    chosen: Mapping[str, str], meter: Meter = silent, source: Source = SOURCE
) -> CocoFiles:
    """The files that `chosen` names by CocoFiles' fields; what it leaves empty is fetched.

    `chosen["cache"]` is where to (empty: the user's cache folder).

    Raises:
        UserError: what cannot be had; see `Coco2017`.
    """
    cache = Path(chosen["cache"]).expanduser() if chosen["cache"] else default_cache()
    data = Coco2017(cache, source, "train2017")

    def own(name: str) -> Path | None:
        return shipped_path(chosen[name]) if chosen[name] else None

    # The small files first: what is wrong with them shows before a long download.
    annotations = own("annotations") or data.fetched_annotations(meter)
    captions = own("image_captions") or data.fetched_annotations(meter, "captions")
    return CocoFiles(own("root") or data.fetched_images(meter), annotations, captions)


def coco_fingerprint(
    files: CocoFiles, crop_captions: Path | None, instances: int, side: int, min_share: float
) -> dict[str, object]:
    """What MSCOCO's samples depend on: its files (except the pictures), the number of instances
    that they gave, and the squares. `crop_captions` is None for a training without.
    """
    return {
        "annotations": sha256_of(files.annotations)[:SHOWN],
        "image_captions": sha256_of(files.image_captions)[:SHOWN],
        "crop_captions": sha256_of(crop_captions)[:SHOWN] if crop_captions else "none",
        "instances": instances,
        "side": side,
        "min_share": min_share,
    }


@dataclass(frozen=True)
class Instance:
    """An object: its picture, its outline and its texts.

    `box` is (x, y, width, height) in pixels; `captions` are of the whole picture.
    """

    number: int
    path: Path
    height: int
    width: int
    polygons: Sequence[Sequence[float]]
    box: tuple[float, float, float, float]
    label: str
    captions: Sequence[str]


@dataclass(frozen=True)
class InstanceList:
    """Instances in their file's order, held as arrays: an `Instance` is made when it is read.

    Python's objects would take kilobytes each, and forked processes would copy them by reading
    (which writes the count of references); arrays are small and stay shared.

    Of I instances: `numbers` [I]; `boxes` [I, 4]; `polygons`, I lists of lists of float64 (as in
    the JSON: in half the bytes the masks would differ); `pictures` [I] and `labels` [I] point into
    what follows. Of P pictures: `names` below `root`, `sizes` [P, 2] (height, width), `captions`,
    a list of each.
    """

    root: Path
    numbers: np.ndarray
    boxes: np.ndarray
    pictures: np.ndarray
    labels: np.ndarray
    polygons: pa.Array
    names: pa.Array
    sizes: np.ndarray
    captions: pa.Array
    categories: Sequence[str]

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Instance]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Instance:
        picture = int(self.pictures[i])
        x, y, w, h = self.boxes[i].tolist()
        height, width = self.sizes[picture].tolist()
        return Instance(
            int(self.numbers[i]),
            self.root / self.names[picture].as_py(),
            height,
            width,
            self.polygons[i].as_py(),
            (x, y, w, h),
            self.categories[self.labels[i]],
            self.captions[picture].as_py(),
        )


def read_instances(root: Path, annotations: Path, captions: Path, min_share: float) -> InstanceList:
    """The instances with polygons whose boxes cover at least `min_share` of their pictures.

    Args:
        root: the pictures' folder, e.g. train2017.
        annotations: an instances JSON of MSCOCO's format.
        captions: its captions JSON, of the same pictures.
        min_share: below which an object is too small to learn to paint.

    Raises:
        UserError: a file is missing or another; a picture's name leads out of `root`, or it is
            not there; no instance is left.
    """
    coco, texts = open_coco(annotations), open_coco(captions)
    kept: list[dict[str, Any]] = []
    order: dict[Any, int] = {}  # a picture's id to its place
    places = {number: place for place, number in enumerate(coco.cats)}
    try:
        for a in coco.anns.values():
            image = coco.imgs[a["image_id"]]
            _, _, w, h = (float(v) for v in a["bbox"])
            if is_crowd(a) or not has_polygons(a):
                continue
            if w * h < min_share * int(image["height"]) * int(image["width"]):
                continue
            order.setdefault(a["image_id"], len(order))
            kept.append(a)
        images = [coco.imgs[number] for number in order]
        found = InstanceList(
            root=root,
            numbers=np.array([int(a["id"]) for a in kept]),
            boxes=np.array([[float(v) for v in a["bbox"]] for a in kept]).reshape(-1, 4),
            pictures=np.array([order[a["image_id"]] for a in kept]),
            labels=np.array([places[a["category_id"]] for a in kept]),
            polygons=pa.array([a["segmentation"] for a in kept], pa.list_(pa.list_(pa.float64()))),
            names=pa.array([str(image["file_name"]) for image in images], pa.string()),
            sizes=np.array([(int(i["height"]), int(i["width"])) for i in images], np.int64),
            captions=pa.array(
                [[str(c["caption"]).strip() for c in texts.imgToAnns[number]] for number in order],
                pa.list_(pa.string()),
            ),
            categories=[str(category["name"]) for category in coco.cats.values()],
        )
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{annotations} or {captions} is not MSCOCO's ({reason})") from error
    if not len(found):
        raise UserError(f"{annotations}: no instance covers {min_share:.2%} of its picture")
    _check_there(root, annotations, found.names.to_pylist())
    return found


def _check_there(root: Path, annotations: Path, names: Sequence[str]) -> None:
    """UserError unless every picture has a place in `root` and a file there (read or not)."""
    there: dict[Path, frozenset[str]] = {}
    missing = []
    for name in names:
        path = path_within(root, name)
        if path is None:
            raise UserError(f"{annotations}: {name!r} leads out of {root}")
        if path.parent not in there:
            # One listing: to ask for each of 100,000 files takes minutes on a network's disk.
            listed = path.parent.iterdir() if path.parent.is_dir() else ()
            there[path.parent] = frozenset(item.name for item in listed)
        if path.name not in there[path.parent]:
            missing.append(path)
    if missing:
        raise UserError(
            f"{missing[0]} does not exist ({len(missing)} of {len(names)} pictures of "
            f"{annotations} do not): set root to the folder that belongs to it"
        )


def mask_of(instance: Instance) -> Tensor:
    """The object's exact mask [H, W] bool, as MSCOCO fills polygons."""
    encoded = rle.frPyObjects(list(instance.polygons), instance.height, instance.width)
    return torch.from_numpy(rle.decode(rle.merge(encoded)).astype(np.bool_))


def picture_of(instance: Instance) -> Tensor:
    """Its picture [3, H, W] in [0, 1].

    Raises:
        UnreadableImageError: it is damaged.
        UserError: it does not exist, or is of another size than the annotations say.
    """
    try:
        pixels = read_stored(instance.path)
    except FileNotFoundError as error:
        remedy = "the pictures' folder is another or gone"
        raise UserError(f"{instance.path} does not exist: {remedy}") from error
    if pixels.shape[:2] != (instance.height, instance.width):
        raise UserError(
            f"{instance.path} is not {instance.width}x{instance.height} pixels as its "
            "annotations say: give the pictures that belong to them"
        )
    return torch.from_numpy(pixels.astype(np.float32) / 255.0).permute(2, 0, 1).contiguous()


def crop_of(instance: Instance, image: Tensor) -> Image.Image:
    """The object's box, cut out of its picture [3, H, W]: what a caption is asked of."""
    x, y, w, h = instance.box
    left, top = int(x), int(y)
    crop = image[:, top : max(top + 1, round(y + h)), left : max(left + 1, round(x + w))]
    return Image.fromarray((crop.permute(1, 2, 0) * 255).round().byte().numpy())
