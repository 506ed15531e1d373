"""From a painted low picture to the large result, and the comparisons of figs. 14, 20 and 21."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from profi.fitting import (
    Extent,
    bytes_of,
    fit_mask,
    fit_picture,
    padded_size,
    working_size,
)
from profi.highres.guided import AfterStep, upscale
from profi.highres.latent_masks import reflected
from profi.highres.poisson import poisson_blend
from profi.highres.upscaler import Upscaler
from profi.metrics.functional import Box, bounding_box, parts_of
from profi.settings.evaluation import Evaluation
from profi.settings.highres import FACTOR, HighRes

#: How a low picture is enlarged. `free`: the upscaler without eq. 16.
Way = Literal["bicubic", "free", "eq16"]
WAYS: tuple[Way, ...] = ("bicubic", "free", "eq16")
#: From an image [3, H, W] in [0, 1], its mask [H, W] bool and a long side to the painted low
#: picture [3, h, w] in [0, 1] of this long side, without padding.
PaintLow = Callable[[Tensor, Tensor, int], Tensor]
#: From a picture uint8 [H, W, 3] and N boxes in it to the object in each, bool [N, H, W].
Segment = Callable[[np.ndarray, Sequence[Box]], np.ndarray]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Enlarging:
    """A picture and its painted low picture, ready to be enlarged in any way.

    Fields:
        image, mask: the given picture [3, H, W] in [0, 1] and its mask [H, W] bool.
        box: the part that is worked on.
        low: that part's painted low picture [3, h, w] in [0, 1], as painted, without padding.
        height, width: of that part at the worked size, without padding.
        large, hole: that part at the worked size, padded: [3, H', W'] in [0, 1] and [H', W'] bool.
    """

    image: Tensor
    mask: Tensor
    box: Box
    low: Tensor
    height: int
    width: int
    large: Tensor
    hole: Tensor
    settings: HighRes
    evaluation: Evaluation

    @classmethod
    def of(
        cls,
        image: Tensor,
        mask: Tensor,
        paint_low: PaintLow,
        long_side: int,
        settings: HighRes,
        evaluation: Evaluation,
    ) -> Enlarging:
        """Paint the low picture of `image` and bring all to the worked size.

        `long_side` is that of the low picture; `settings.long_side` replaces four times it.
        """
        # (The last blend needs known pixels on all sides of its hole.)
        margin = None if settings.crop is None else max(settings.crop, settings.margin)
        box = surroundings(mask, margin)
        part = (slice(box.top, box.bottom), slice(box.left, box.right))
        small = long_side if settings.long_side is None else settings.long_side // FACTOR
        low = paint_low(image[:, *part], mask[part], small)
        given = (box.bottom - box.top, box.right - box.left)
        size = worked_size(low, given, small * FACTOR, evaluation)
        padded = padded_size(size, settings.pad_multiple)
        return cls(
            image,
            mask,
            box,
            low,
            *size,
            reflected(fit_picture(image[:, *part], size, evaluation.picture), padded),
            reflected(fit_mask(mask[part], size, evaluation.mask), padded),
            settings,
            evaluation,
        )

    @property
    def part(self) -> tuple[slice, slice]:
        """Rows and columns of `box`."""
        return slice(self.box.top, self.box.bottom), slice(self.box.left, self.box.right)

    @property
    def original(self) -> np.ndarray:
        """The given picture at the worked size, without padding, uint8 [height, width, 3]."""
        return array(self.cut(self.large))

    @property
    def worked_mask(self) -> np.ndarray:
        """The mask at the worked size, without padding, bool [height, width]."""
        return self.hole[: self.height, : self.width].numpy()

    @property
    def low_mask(self) -> np.ndarray:
        """The mask at the low picture's size, bool [h, w]."""
        size = (self.low.shape[1], self.low.shape[2])
        return fit_mask(self.mask[self.part], size, self.evaluation.mask).numpy()

    def with_known_low(self) -> Enlarging:
        """The same, the low picture's known pixels being the given ones (`HighRes.low` blended)."""
        given = bytes_of(self.low_given(), self.evaluation.bytes) / 255.0
        return replace(self, low=torch.where(torch.from_numpy(self.low_mask), self.low, given))

    def low_given(self) -> Tensor:
        """The given part at the low picture's size, [3, h, w] in [0, 1]."""
        size = (self.low.shape[1], self.low.shape[2])
        return fit_picture(self.image[:, *self.part], size, self.evaluation.picture)

    def narrowed(self, segment: Segment) -> Enlarging:
        """The same with a mask that holds only the old and the new object.

        `segment` gets the given and the painted low picture with the boxes of the mask's parts;
        what it finds in either stays in the mask. A part in which it finds nothing stays whole.
        """
        parts = parts_of(self.low_mask)
        if not parts:  # (Bicubic resizing loses what is much smaller than a low pixel.)
            return self
        boxes = [bounding_box(one) for one in parts]
        objects = segment(array(self.low_given()), boxes) | segment(array(self.low), boxes)
        found = [part & one for part, one in zip(parts, objects, strict=True)]
        lost = sum(not one.any() for one in found)
        if lost:
            log.warning(
                "no object is found in %d of the mask's %d parts: they stay whole", lost, len(parts)
            )
        kept = [one if one.any() else part for part, one in zip(parts, found, strict=True)]
        low = torch.from_numpy(np.logical_or.reduce(kept))
        mask = self.mask.clone()
        given = (self.box.bottom - self.box.top, self.box.right - self.box.left)
        mask[self.part] &= fit_mask(low, given, "covering")
        if not mask.any():  # (Bicubic resizing grows masks: it was found outside of the given one.)
            return self
        worked = fit_mask(mask[self.part], (self.height, self.width), self.evaluation.mask)
        padded = (self.hole.shape[0], self.hole.shape[1])
        return replace(self, mask=mask, hole=reflected(worked, padded))

    def upscaled(
        self,
        upscaler: Upscaler,
        prompt: str,
        seed: int,
        after_step: AfterStep | None = None,
        settings: HighRes | None = None,
    ) -> Tensor:
        """The upscaler's picture [3, height, width], float32 in [0, 1], before the Poisson step.

        `settings` replaces those of the enlarging. See `upscale` for the other arguments.
        """
        chosen, padded = settings or self.settings, (self.large.shape[1], self.large.shape[2])
        known = self.large
        if chosen.hole == "painted":
            known = torch.where(self.hole, reflected(self.bicubic(), padded), known)
        painted = upscale(
            upscaler,
            reflected(self.low, (padded[0] // FACTOR, padded[1] // FACTOR)),
            known,
            self.hole,
            prompt,
            seed,
            chosen,
            self.evaluation.noise,
            after_step,
        )
        return self.cut(painted)

    def bicubic(self) -> Tensor:
        """The low picture, enlarged by the bicubic filter: [3, height, width] in [0, 1]."""
        return fit_picture(self.low, (self.height, self.width), self.evaluation.picture)

    def in_way(
        self,
        way: Way,
        upscaler: Upscaler,
        prompt: str,
        seed: int,
        after_step: AfterStep | None = None,
    ) -> Tensor:
        """The low picture enlarged in one of the ways: [3, height, width] in [0, 1]."""
        if way == "bicubic":
            return self.bicubic()
        chosen = replace(self.settings, known=way)
        return self.upscaled(upscaler, prompt, seed, after_step, chosen)

    def cut(self, painted: Tensor) -> Tensor:
        """A padded picture [3, H', W'] without its padding."""
        return painted[:, : self.height, : self.width]

    def finished(self, painted: Tensor) -> np.ndarray:
        """The result, uint8 [H, W, 3]: `painted` [3, height, width] blended into the original.

        With `result="own"` it has the given picture's size, with "worked" the worked one's (of the
        box alone). Pixels that the last blend does not change are the given ones, bit for bit.
        """
        pixels = bytes_of(painted, self.evaluation.bytes)
        if self.settings.result == "worked":
            return poisson_blend(array(pixels), self.original, self.worked_mask, self.settings)
        size = (self.box.bottom - self.box.top, self.box.right - self.box.left)
        if pixels.shape[1:] != size:
            pixels = bytes_of(fit_picture(pixels / 255.0, size, self.evaluation.picture), "rounded")
        whole = array(self.image)
        hole = self.mask[self.part].numpy()
        whole[self.part] = poisson_blend(array(pixels), whole[self.part], hole, self.settings)
        return whole


@dataclass(frozen=True)
class Compared:
    """One way of fig. 14: its picture before the Poisson step and the result, uint8 [H, W, 3].

    `painted` has the worked size.
    """

    way: Way
    painted: np.ndarray
    picture: np.ndarray


def compare(
    enlarging: Enlarging,
    upscaler: Upscaler,
    prompt: str,
    seed: int = 0,
    ways: Sequence[Way] = WAYS,
) -> list[Compared]:
    """Bicubic, the upscaler without eq. 16, and with it, each with the same last blend."""
    found = []
    for way in ways:
        painted = enlarging.in_way(way, upscaler, prompt, seed)
        pixels = array(bytes_of(painted, enlarging.evaluation.bytes))
        found.append(Compared(way, pixels, enlarging.finished(painted)))
    return found


def surroundings(mask: Tensor, margin: int | None) -> Box:
    """The mask's bounding box with a margin, inside the picture; None: the whole picture."""
    H, W = mask.shape
    if margin is None:
        return Box(0, 0, H, W)
    box = bounding_box(mask.numpy())
    return Box(
        max(0, box.top - margin),
        max(0, box.left - margin),
        min(H, box.bottom + margin),
        min(W, box.right + margin),
    )


def worked_size(low: Tensor, given: Extent, long_side: int, evaluation: Evaluation) -> Extent:
    """(height, width) of the large picture.

    By the rule `rounded` it is four times the low picture's, so that the two lie on each other
    exactly; by `truncated` it is the `given` size brought to `long_side`, as released, which may be
    up to three pixels more.
    """
    if evaluation.size == "truncated":
        return working_size(given, long_side, evaluation.size)
    return FACTOR * low.shape[1], FACTOR * low.shape[2]


def array(picture: Tensor) -> np.ndarray:
    """A picture [3, H, W], bytes or in [0, 1], as uint8 [H, W, 3]."""
    pixels = picture if picture.dtype == torch.uint8 else bytes_of(picture, "rounded")
    return pixels.permute(1, 2, 0).contiguous().numpy().copy()
