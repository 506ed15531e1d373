"""MSCOCO's training instances as a source of samples."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as rle
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from profi.data.coco import has_polygons, open_coco
from profi.data.images import path_within
from profi.data.user_images import read_image
from profi.inpainters.images import nearest, scaled
from profi.training.examples import Draw, Examples, TextToImage
from profi.training.recipe import Recipe
from profi.training.smartbrush import Batch
from profi.types import UserError


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


def read_instances(
    root: Path, annotations: Path, captions: Path, min_share: float
) -> list[Instance]:
    """The instances with polygons whose boxes cover at least `min_share` of their pictures.

    Args:
        root: the pictures' folder, e.g. train2017.
        annotations: an instances JSON of MSCOCO's format.
        captions: its captions JSON, of the same pictures.
        min_share: below which an object is too small to learn to paint.

    Raises:
        UserError: a file is missing or another; a picture's name leads out of `root`; no instance
            is left.
    """
    coco, told = open_coco(annotations), open_coco(captions)
    found = []
    try:
        for a in coco.anns.values():
            image = coco.imgs[a["image_id"]]
            height, width = int(image["height"]), int(image["width"])
            x, y, w, h = (float(v) for v in a["bbox"])
            if not has_polygons(a) or w * h < min_share * height * width:
                continue
            path = path_within(root, str(image["file_name"]))
            if path is None:
                raise UserError(f"{annotations}: {image['file_name']!r} leads out of {root}")
            texts = [str(c["caption"]).strip() for c in told.imgToAnns[a["image_id"]]]
            label = str(coco.cats[a["category_id"]]["name"])
            found.append(
                Instance(
                    int(a["id"]), path, height, width, a["segmentation"], (x, y, w, h), label, texts
                )
            )
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{annotations} or {captions} is not MSCOCO's ({reason})") from error
    if not found:
        raise UserError(f"{annotations}: no instance covers {min_share:.2%} of its picture")
    return found


def read_captions(path: Path) -> dict[int, str]:
    """Captions of crops by annotation id, as `scripts/caption_crops.py` writes them (JSON lines).

    Raises UserError for a file that is missing or something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        return {int(row["id"]): str(row["caption"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no file of captions ({type(error).__name__}); "
            "write one with scripts/caption_crops.py"
        ) from error


def mask_of(instance: Instance) -> Tensor:
    """The object's exact mask [H, W] bool, as MSCOCO fills polygons."""
    encoded = rle.frPyObjects(list(instance.polygons), instance.height, instance.width)
    return torch.from_numpy(rle.decode(rle.merge(encoded)).astype(np.bool_))


def crop_of(instance: Instance, image: Tensor) -> Image.Image:
    """The object's box, cut out of its picture [3, H, W]: what a caption is asked of."""
    x, y, w, h = instance.box
    left, top = int(x), int(y)
    crop = image[:, top : max(top + 1, round(y + h)), left : max(left + 1, round(x + w))]
    return Image.fromarray((crop.permute(1, 2, 0) * 255).round().byte().numpy())


@dataclass(frozen=True)
class Instances(Dataset[tuple[Tensor, Tensor, str, int | None]]):
    """Sample i: a square of a picture with one of its objects, scaled to `side` pixels.

    The instance is drawn with replacement, all being equally likely. The square is as large as the
    picture allows and lies anywhere along it where it shows the whole box (or, of a longer one, a
    part). Text-to-image samples have one of the picture's captions.
    """

    instances: Sequence[Instance]
    crop_captions: Mapping[int, str]
    side: int
    recipe: Recipe

    def __post_init__(self) -> None:
        missing = sum(i.number not in self.crop_captions for i in self.instances)
        if missing and self.recipe.captions > 0:
            raise UserError(
                f"{missing} of {len(self.instances)} instances have no caption of their crop: "
                "write them with scripts/caption_crops.py, or train on labels with captions=0"
            )

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, str, int | None]:
        """Picture [3, side, side], the object's mask, the text and the level."""
        draw = Draw.of(self.recipe, index)
        instance = self.instances[draw.rng.randrange(len(self.instances))]
        image, mask = read_image(instance.path), mask_of(instance)
        if image.shape[1:] != mask.shape:
            raise UserError(
                f"{instance.path} is not {instance.width}x{instance.height} pixels as its "
                "annotations say: give the pictures that belong to them"
            )
        x, y, w, h = instance.box
        shorter = min(instance.height, instance.width)
        left = _place(draw.rng.random(), x, w, shorter, instance.width)
        top = _place(draw.rng.random(), y, h, shorter, instance.height)
        image = image[:, top : top + shorter, left : left + shorter]
        mask = mask[top : top + shorter, left : left + shorter]
        size = (self.side, self.side)
        image, mask = scaled(image, size), nearest(mask, size)
        level = draw.level if bool(mask.any()) else None
        if level is None:
            texts = instance.captions or [instance.label]
            text = texts[draw.rng.randrange(len(texts))]
        else:
            text = self.crop_captions[instance.number] if draw.captioned else instance.label
        return image, mask, "" if draw.silent else text, level


def _place(share: float, start: float, length: float, side: int, whole: int) -> int:
    """Where a window of `side` begins within `whole`, so that it shows [start, start + length)."""
    low, high = start + length - side, start
    if low > high:  # the window is the shorter one: anywhere within what it should show
        low, high = high, low
    low, high = min(max(low, 0), whole - side), min(max(high, 0), whole - side)
    return int(low + share * (high - low))


@dataclass(frozen=True)
class CocoSource:
    """A `Source` of `Instances`, read by `workers` processes and encoded by the model."""

    data: Instances
    model: TextToImage
    workers: int = 4

    def batches(self, wanted: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """See `Source`."""
        loader: Any = DataLoader(
            self.data,
            batch_sampler=wanted,  # type: ignore[arg-type]  # any iterable of index lists does
            num_workers=self.workers,
            collate_fn=_collated,
        )
        for examples in loader:
            yield self.model.batch(examples, self.data.recipe)


def _collated(samples: list[tuple[Tensor, Tensor, str, int | None]]) -> Examples:
    images, masks, texts, levels = zip(*samples, strict=True)
    return Examples(torch.stack(images), torch.stack(masks), texts, levels)
