"""Functional metrics: label accuracy, PSNR of the known region, and cosines of embeddings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch


class Detection(NamedTuple):
    """One found object.

    `score` is in [0, 1]; `box` is (x0, y0, x1, y1) in pixels of the given image.
    """

    category_id: int
    score: float
    box: tuple[float, float, float, float]


def label_found(detections: Iterable[Detection], category_id: int, threshold: float = 0.3) -> float:
    """100.0 if `category_id` is among the detections with score > `threshold`, else 0.0.

    Its mean is the paper's generation accuracy in per cent (sec. 4.2).
    """
    found = any(
        detection.category_id == category_id and detection.score > threshold
        for detection in detections
    )
    return 100.0 if found else 0.0


# An unchanged region has an infinite PSNR, and one infinity makes a mean infinite. The cap is above
# every real value: a change of one level in one channel of one pixel of 4096 x 4096 is 125 dB.
CAP_DB = 130.0


def known_region_psnr(image: np.ndarray, original: np.ndarray, mask: np.ndarray) -> float:
    """PSNR of `image` against `original` outside `mask`, dB in [0, 130]; 130 is "identical".

    Args:
        image: uint8 [H, W, 3].
        original: uint8 [H, W, 3].
        mask: bool [H, W]; True is painted and not compared.

    Returns:
        10 log10(255^2 / MSE), or NaN if the whole image is masked.
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

    Negative scores are kept; torchmetrics, and so the released code, sets them to 0.
    """
    return 100.0 * cosine(image_embeds, text_embeds)
