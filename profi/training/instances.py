"""MSCOCO's training instances as a source of samples."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from profi.data.pictures import UnreadableImageError
from profi.fitting import fit_mask, fit_picture
from profi.settings.evaluation import OURS
from profi.training.examples import Draw, Examples, TextToImage
from profi.training.instance_list import Instance, InstanceList, mask_of, picture_of
from profi.training.recipe import Recipe
from profi.training.smartbrush_loss import Batch
from profi.types import UserError

log = logging.getLogger(__name__)

#: So many pictures that cannot be read are taken for damage of their own, more for a wrong folder.
MAX_UNREADABLE = 100


class NumberedTexts(Mapping[int, str]):
    """Texts by numbers of any kind, in two arrays (`InstanceList` says why)."""

    def __init__(self, texts: Mapping[int, str]) -> None:
        self._numbers = np.array(sorted(texts), np.int64)
        self._texts = pa.array([texts[number] for number in self._numbers.tolist()], pa.string())

    def __getitem__(self, number: int) -> str:
        i = int(np.searchsorted(self._numbers, number))
        if i == len(self._numbers) or self._numbers[i] != number:
            raise KeyError(number)
        text: str = self._texts[i].as_py()
        return text

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers.tolist())

    def __len__(self) -> int:
        return len(self._numbers)


def parsed_captions(text: str) -> dict[int, str | None]:
    """Lines of {"id": ..., "caption": ...}, the last of an id; null for an unreadable picture.

    Raises ValueError, KeyError or TypeError for anything else.
    """
    captions: dict[int, str | None] = {}
    for line in text.splitlines():
        row = json.loads(line)
        number, caption = row["id"], row["caption"]
        if not isinstance(number, int) or not isinstance(caption, str | None):
            raise TypeError(line[:80])
        captions[number] = caption
    return captions


def read_captions(path: Path) -> Mapping[int, str]:
    """Captions of crops by annotation id, as `scripts/caption_crops.py` writes them (JSON lines).

    One that could not be written, its picture being unreadable, is empty. Raises UserError for a
    file that is missing or something else.
    """
    try:
        found = parsed_captions(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise not_captions(path, error) from error
    return NumberedTexts({number: caption or "" for number, caption in found.items()})


def not_captions(path: Path, error: Exception) -> UserError:
    """The error for a file that holds no captions."""
    return UserError(
        f"{path} is no file of captions ({type(error).__name__}); "
        "write one with scripts/caption_crops.py"
    )


class Unreadable:
    """Reports each unreadable picture once; an error if they are too many."""

    def __init__(self, report: Callable[[str], None] = log.warning) -> None:
        self._known: set[Path] = set()
        self._report = report

    def add(self, path: Path, reason: str) -> None:
        """Raises UserError after the hundredth."""
        if path in self._known:
            return
        self._known.add(path)
        if len(self._known) > MAX_UNREADABLE:
            raise too_many(reason)
        self._report(reason)


def too_many(reason: str) -> UserError:
    """The error for a folder in which most pictures cannot be read."""
    return UserError(f"more than {MAX_UNREADABLE} pictures cannot be read, the last: {reason}")


class Sample(NamedTuple):
    """A picture [3, side, side] in [0, 1], an object's mask [side, side], its text and level.

    `unreadable` are the pictures that were drawn before and could not be read, with the reason.
    """

    image: Tensor
    mask: Tensor
    text: str
    level: int | None
    unreadable: tuple[tuple[Path, str], ...] = ()


@dataclass(frozen=True)
class Instances(Dataset[Sample]):
    """Sample i: a square of a picture with one of its objects, scaled to `side` pixels.

    The instance is drawn with replacement, all being equally likely. The square is as large as the
    picture allows and lies anywhere along it where it shows the whole box (or, of a longer one, a
    part). Text-to-image samples have one of the picture's captions. In place of a picture that
    cannot be read comes the sample's next draw, so that it is the same in every run and process.
    """

    instances: InstanceList
    crop_captions: Mapping[int, str]
    side: int
    recipe: Recipe

    def __post_init__(self) -> None:
        missing = sum(n not in self.crop_captions for n in self.instances.numbers.tolist())
        if missing and self.recipe.captions > 0:
            raise UserError(
                f"{missing} of {len(self.instances)} instances have no caption of their crop: "
                "write them with scripts/caption_crops.py, or train on labels with captions=0"
            )

    def __getitem__(self, index: int) -> Sample:
        """Raises UserError for pictures that belong to other annotations, and for many bad ones."""
        draw = Draw.of(self.recipe, index)
        instance, image, unreadable = self._readable(draw)
        mask = mask_of(instance)
        x, y, w, h = instance.box
        shorter = min(instance.height, instance.width)
        left = _place(draw.rng.random(), x, w, shorter, instance.width)
        top = _place(draw.rng.random(), y, h, shorter, instance.height)
        image = image[:, top : top + shorter, left : left + shorter]
        mask = mask[top : top + shorter, left : left + shorter]
        size = (self.side, self.side)
        image, mask = fit_picture(image, size, OURS.picture), fit_mask(mask, size, OURS.mask)
        level = draw.level if bool(mask.any()) else None
        if level is None:
            texts = instance.captions or [instance.label]
            text = texts[draw.rng.randrange(len(texts))]
        else:
            # (a picture that could be read but by then was not has an empty one)
            caption = self.crop_captions[instance.number] if draw.captioned else ""
            text = caption or instance.label
        return Sample(image, mask, "" if draw.silent else text, level, unreadable)

    def _readable(self, draw: Draw) -> tuple[Instance, Tensor, tuple[tuple[Path, str], ...]]:
        """The first drawn instance whose picture can be read, the picture, and the bad ones."""
        unreadable: list[tuple[Path, str]] = []
        while True:
            instance = self.instances[draw.rng.randrange(len(self.instances))]
            try:
                return instance, picture_of(instance), tuple(unreadable)
            except UnreadableImageError as error:
                unreadable.append((instance.path, str(error)))
                # Of a small set the same ones over and over.
                if len(unreadable) > MAX_UNREADABLE:
                    raise too_many(str(error)) from error


def _place(share: float, start: float, length: float, side: int, whole: int) -> int:
    """Where a window of `side` begins within `whole`, so that it shows [start, start + length)."""
    low, high = start + length - side, start
    if low > high:  # the window is the shorter one: anywhere within what it should show
        low, high = high, low
    low, high = min(max(low, 0), whole - side), min(max(high, 0), whole - side)
    return int(low + share * (high - low))


@dataclass(frozen=True)
class _Guarded(Dataset[Sample | str]):
    """In place of raising a UserError, its line: a worker would send it with its traceback."""

    data: Instances

    def __getitem__(self, index: int) -> Sample | str:
        try:
            return self.data[index]
        except UserError as error:
            return str(error)


@dataclass(frozen=True)
class CocoSource:
    """A `Source` of `Instances`, read by `workers` processes and encoded by the model."""

    data: Instances
    model: TextToImage
    workers: int = 4

    def batches(self, index_lists: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """See `Source`.

        A picture that cannot be read is logged once, in one line. Raises UserError as `Instances`
        does, and where more than MAX_UNREADABLE pictures cannot be read.
        """
        loader: Any = DataLoader(
            _Guarded(self.data),
            batch_sampler=index_lists,  # type: ignore[arg-type]  # any iterable of index lists does
            num_workers=self.workers,
            collate_fn=_collated,
        )
        reported = Unreadable()
        for read in loader:
            if isinstance(read, str):
                raise UserError(read)
            examples, unreadable = read
            for path, reason in unreadable:
                reported.add(path, reason)
            yield self.model.batch(examples, self.data.recipe)


def _collated(
    samples: list[Sample | str],
) -> tuple[Examples, list[tuple[Path, str]]] | str:
    """The samples side by side, with what could not be read of any; a refusal alone."""
    whole: list[Sample] = []
    for sample in samples:
        if isinstance(sample, str):
            return sample
        whole.append(sample)
    images, masks, texts, levels, unreadable = zip(*whole, strict=True)
    examples = Examples(torch.stack(images), torch.stack(masks), texts, levels)
    return examples, [item for items in unreadable for item in items]
