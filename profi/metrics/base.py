"""The `Metric` protocol and its input, the `Sample`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from profi.metrics.functional.crop import Box, bounding_box
from profi.settings.evaluation import BoxOf


@dataclass(frozen=True, eq=False)
class Sample:
    """One painted image with its mask and prompt.

    Attributes:
        image: uint8 [H, W, 3], RGB; the painted image.
        mask: bool [H, W]; True where the image was painted.
        prompt: the prompt; in the benchmark it is the label.
        original: uint8 [H, W, 3], RGB, the image before painting. Only metrics that compare with
            it (`Metric.needs_original`) get it; without it they score NaN.
        bicubic_mask: bool [H, W]; the given mask, resized by PIL's bicubic filter; `box` may use it
            in place of `mask`. None: there is only `mask`.

    Raises:
        ValueError: a shape or a type is wrong.
    """

    image: np.ndarray
    mask: np.ndarray
    prompt: str
    original: np.ndarray | None = None
    bicubic_mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, array in (("image", self.image), ("original", self.original)):
            if array is None:
                continue
            if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
                raise ValueError(f"{name} must be uint8 [H, W, 3], not {array.dtype} {array.shape}")
        if self.mask.dtype != np.bool_ or self.mask.shape != self.image.shape[:2]:
            raise ValueError(
                f"mask must be bool {self.image.shape[:2]}, not {self.mask.dtype} {self.mask.shape}"
            )
        if self.bicubic_mask is not None and self.bicubic_mask.shape != self.mask.shape:
            raise ValueError(f"bicubic_mask {self.bicubic_mask.shape} is not {self.mask.shape}")
        if self.original is not None and self.original.shape != self.image.shape:
            raise ValueError(f"original {self.original.shape} is not image {self.image.shape}")

    def box(self, rule: BoxOf) -> Box:
        """The bounding box of the mask that `rule` names; ValueError if that mask is empty."""
        if rule == "painted_mask" or self.bicubic_mask is None:
            return bounding_box(self.mask)
        return bounding_box(self.bicubic_mask)


class Metric(Protocol):
    """One score per sample; a score does not depend on the other samples in the call.

    A score that cannot be computed is NaN; reports count it and never drop it.
    """

    @property
    def name(self) -> str:
        """The metric's name in the scores store."""
        ...

    @property
    def needs_original(self) -> bool:
        """Whether the metric needs `Sample.original`."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """All settings that change scores (hashes of weights, thresholds, ...), as JSON values.

        It is recorded with the scores.
        """
        ...

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """One value per sample, in order."""
        ...
