"""Pure functions: arrays and tensors in, arrays and numbers out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import label


class Box(NamedTuple):
    """A half-open box in pixels: rows top <= y < bottom, columns left <= x < right."""

    top: int
    left: int
    bottom: int
    right: int


def bounding_box(mask: np.ndarray) -> Box:
    """The smallest box that holds every True of `mask` (bool [H, W]).

    Raises:
        ValueError: the mask is empty.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        raise ValueError("the mask is empty: it has no bounding box")
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def parts_of(mask: np.ndarray) -> list[np.ndarray]:
    """The connected parts of a mask, bool [H, W]; pixels that touch at a corner are connected."""
    numbered, count = label(mask, np.ones((3, 3)))
    return [numbered == number for number in range(1, count + 1)]


def crop(image: np.ndarray, box: Box) -> np.ndarray:
    """The part of `image` ([H, W, C]) inside `box`, as a view."""
    return image[box.top : box.bottom, box.left : box.right]


def pad_to_square(image: np.ndarray) -> np.ndarray:
    """`image` ([H, W, C]) centred on black, [S, S, C] with S = max(H, W).

    An odd difference puts its extra row or column at the bottom or the right.
    """
    height, width = image.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side, *image.shape[2:]), dtype=image.dtype)
    square[top : top + height, left : left + width] = image
    return square


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
    return decibels(error, 255.0)


def decibels(error: float, peak: float) -> float:
    """PSNR of a mean squared error, at most CAP_DB; `peak` is the largest value."""
    return CAP_DB if error == 0 else min(CAP_DB, 10.0 * math.log10(peak**2 / error))


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


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """d^2 = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of features [N, D] and [M, D].

    m and C are the means and the covariances, as if both samples were Gaussian (Dowson and Landau,
    1982; Heusel et al., 2017). It falls with the number of samples: compare only equal numbers.

    Raises:
        ValueError: a sample has fewer than two rows, or the widths differ.
    """
    a, b = (np.asarray(x, dtype=np.float64) for x in (first, second))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"features of shapes {a.shape} and {b.shape}: two samples [N, D], N >= 2")
    shift = a.mean(0) - b.mean(0)
    one, two = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    one, two = np.atleast_2d(one), np.atleast_2d(two)
    # C1 C2 has the eigenvalues of the symmetric C1^(1/2) C2 C1^(1/2).
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    overlap = np.sqrt(np.linalg.eigvalsh(root @ two @ root).clip(0)).sum()
    return float(shift @ shift + np.trace(one) + np.trace(two) - 2 * overlap)
