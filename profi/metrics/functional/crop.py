"""The masked part of an image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


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
