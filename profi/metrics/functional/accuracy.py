"""Is the label among the detections?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Detection(NamedTuple):
    """One found object.

    `score` is in [0, 1]; `box` is (x0, y0, x1, y1) in pixels of the picture that was given.
    """

    category_id: int
    score: float
    box: tuple[float, float, float, float]


def label_found(detections: Iterable[Detection], category_id: int, threshold: float = 0.3) -> float:
    """100.0 if `category_id` is among the detections with score > `threshold`, else 0.0.

    The paper's generation accuracy (sec. 4.2) is the mean of it, in per cent.
    """
    found = any(
        detection.category_id == category_id and detection.score > threshold
        for detection in detections
    )
    return 100.0 if found else 0.0
