"""Generation accuracy: whether a detector finds the label in the painted region (sec. 4.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from profi.metrics.base import Sample
from profi.metrics.detectors import Detector
from profi.metrics.functional import crop, label_found
from profi.settings.evaluation import BoxOf


class GenerationAccuracy:
    """100.0 if the label is among the detections in the mask's bounding box, else 0.0.

    NaN for an empty mask and for a prompt that is not a category of the detector.

    Args:
        detector: finds the labels.
        threshold: a detection counts if its score is above.
        name: name of the metric; scores of two detectors in one report need two names.
        box: the mask whose bounding box is used (`Evaluation`).
    """

    needs_original = False

    def __init__(
        self,
        detector: Detector,
        threshold: float = 0.3,
        *,
        name: str = "accuracy",
        box: BoxOf = "painted_mask",
    ) -> None:
        self.name = name
        self._detector = detector
        self._threshold = threshold
        self._box: BoxOf = box

    @property
    def identity(self) -> Mapping[str, Any]:
        """The detector's identity, the threshold and the region."""
        return {
            "detector": dict(self._detector.identity),
            "threshold": self._threshold,
            "region": "mask bounding box",
            "box": self._box,
        }

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """One value per sample: 100.0, 0.0 or NaN."""
        categories = self._detector.categories
        values = [math.nan] * len(samples)
        chosen = [
            index
            for index, sample in enumerate(samples)
            if sample.mask.any() and sample.prompt in categories
        ]
        crops = [crop(samples[i].image, samples[i].box(self._box)) for i in chosen]
        for index, detections in zip(chosen, self._detector.detect(crops), strict=True):
            category_id = categories[samples[index].prompt]
            values[index] = label_found(detections, category_id, self._threshold)
        return values
