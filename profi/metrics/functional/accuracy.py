"""Is the label among the detections?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch


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


# An unchanged region has no error at all, hence an infinite PSNR, and one infinity makes a mean
# infinite. One level in one channel of a 4096 x 4096 image is 125 dB; nothing real comes near.
CAP_DB = 130.0


def known_region_psnr(image: np.ndarray, original: np.ndarray, mask: np.ndarray) -> float:
    """PSNR of `image` against `original` outside `mask`, dB in [0, 130]; 130 is "identical".

    Args:
        image: uint8 [H, W, 3].
        original: uint8 [H, W, 3].
        mask: bool [H, W]; True is painted, hence left out.

    Returns:
        10 log10(255^2 / MSE), or NaN where the mask leaves nothing to compare.
    """
    known = ~mask
    if not known.any():
        return math.nan
    difference = image[known].astype(np.float64) - original[known].astype(np.float64)
    error = float(np.mean(difference**2))
    return CAP_DB if error == 0 else min(CAP_DB, 10.0 * math.log10(255.0**2 / error))


def l2_normalised(embeds: torch.Tensor) -> torch.Tensor:
    """`embeds` ([..., D]) scaled to unit length along the last axis."""
    return embeds / embeds.norm(dim=-1, keepdim=True)


def cosine(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    """cos(one, two), row by row: [N, D] and [N, D] give [N], in [-1, 1]."""
    return (l2_normalised(one) * l2_normalised(two)).sum(dim=-1)


def clip_score(image_embeds: torch.Tensor, text_embeds: torch.Tensor) -> torch.Tensor:
    """100 cos(image, text), row by row: [N, D] and [N, D] give [N], in [-100, 100].

    Negative cosines are kept; torchmetrics, and so the released code, cuts them at 0.
    """
    return 100.0 * cosine(image_embeds, text_embeds)
