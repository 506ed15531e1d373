"""What a metric is given and what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from profi.metrics.functional.crop import Box, bounding_box
from profi.settings.evaluation import BoxOf


@dataclass(frozen=True, eq=False)
class Sample:
    """One painted image as a metric sees it.

    Attributes:
        image: uint8 [H, W, 3], RGB; the painted image.
        mask: bool [H, W]; True where the image was painted.
        prompt: what was asked for; the label in the benchmark.
        original: uint8 [H, W, 3], RGB, the image before painting; only metrics that compare
            with it (`Metric.needs_original`) are given it; they score NaN without it.
        bicubic_mask: bool [H, W]; the given mask as PIL's bicubic filter brings it to the image's
            size, which a crop may be taken of instead (`box`); None: no other one.

    Raises:
        ValueError: a shape or a type is another one.
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
        """The bounding box of one of the masks; ValueError where the image's mask is empty."""
        if rule == "painted_mask" or self.bicubic_mask is None:
            return bounding_box(self.mask)
        return bounding_box(self.bicubic_mask)


class Metric(Protocol):
    """A score per sample, independent of which samples share the call.

    `identity` is what decides the values beside the samples (hashes of weights, readings,
    thresholds), JSON-able: it is recorded with the scores. A value that cannot be computed
    is NaN; it is counted by the reports, never dropped.
    """

    @property
    def name(self) -> str:
        """The metric's name in the scores store."""
        ...

    @property
    def needs_original(self) -> bool:
        """Whether it compares with `Sample.original`."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the values, JSON-able."""
        ...

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """One value per sample, in order."""
        ...
