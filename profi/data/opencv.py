"""Filled convex polygons with integer corners, pixel for pixel as OpenCV draws them.

It does what `drawContours(..., thickness=FILLED)` does in OpenCV 4.12 to 5.0. Some earlier versions
(4.8 and 4.10 among them) differ by single pixels next to a side. Every side is clipped to the image
and drawn as an 8-connected line (Bresenham). Then the rows between the sides are filled; the sides'
columns are in fixed point.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

Point = tuple[int, int]
#: 1.0 in fixed point.
_ONE = 1 << 16
_FAR = 1 << 62


def fill_convex(corners: Sequence[Point], height: int, width: int) -> np.ndarray:
    """A convex polygon as a mask: bool [height, width].

    Args:
        corners: (x, y), clockwise (y points down). Two corners are a line, one is a point. They
            may lie outside the image.
        height: of the image.
        width: of the image.
    """
    outline = np.zeros((height, width), dtype=np.bool_)
    left, right = np.full(height, _FAR), np.full(height, -_FAR)
    for start, end in pairwise([corners[-1], *corners]):
        crosses, cut_start, cut_end = _cut(start, end, height, width)
        if crosses:
            _draw_line(outline, cut_start, cut_end)
        if start[1] != end[1]:
            rows, columns = _side(start, end, cut_start, cut_end, height)
            left[rows] = np.minimum(left[rows], columns)
            right[rows] = np.maximum(right[rows], columns)
    x = np.arange(width)
    filled = (x >= -(-left[:, None] // _ONE)) & (x <= right[:, None] // _ONE)
    return outline | filled


def _side(
    start: Point, end: Point, cut_start: Point, cut_end: Point, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """The image rows that a side crosses (without the last one), and its column in each."""
    (x0, y0), (x1, y1) = start, end
    if (cut_start, cut_end) != (start, end):
        # The clipped side gives the slope, unless it lies in a single row.
        x0, x1 = cut_start[0], cut_end[0]
        if cut_start[1] != cut_end[1]:
            y0, y1 = cut_start[1], cut_end[1]
    slope = int((x1 - x0) * _ONE / (y1 - y0))
    if y0 > y1:
        x0, y0 = x1, y1
    low, high = sorted((start[1], end[1]))
    rows = np.arange(max(low, 0), min(high, height))
    return rows, x0 * _ONE + (rows - y0) * slope


def _draw_line(mask: np.ndarray, start: Point, end: Point) -> None:
    """Draw a line between two points of the image, from left to right; halves round down."""
    (x0, y0), (x1, y1) = sorted((start, end), key=lambda point: point[0])
    dx, dy = x1 - x0, abs(y1 - y0)
    steps, rise = max(dx, dy), min(dx, dy)
    along = np.arange(steps + 1)
    # ceil(along * rise / steps - 1/2)
    aside = -((steps - 2 * along * rise) // (2 * steps)) if steps else along
    down, right = (aside, along) if dx >= dy else (along, aside)
    mask[y0 + (down if y1 >= y0 else -down), x0 + right] = True


def _cut(start: Point, end: Point, height: int, width: int) -> tuple[bool, Point, Point]:
    """A side clipped to the image, and whether any of it is inside (Cohen-Sutherland).

    The order of the cuts and the truncation are OpenCV's: they decide the pixels near the border.
    """
    (x0, y0), (x1, y1) = start, end
    last_x, last_y = width - 1, height - 1

    def beyond(value: int, last: int) -> int:
        return -1 if value < 0 else int(value > last)

    def border(side: int, last: int) -> int:
        return 0 if side < 0 else last

    def apart() -> bool:
        """Whether both ends lie beyond the same border."""
        return any(
            a == b != 0
            for a, b in (
                (beyond(x0, last_x), beyond(x1, last_x)),
                (beyond(y0, last_y), beyond(y1, last_y)),
            )
        )

    if apart():
        return False, (x0, y0), (x1, y1)
    if side := beyond(y0, last_y):
        y = border(side, last_y)
        x0, y0 = x0 + int((y - y0) * (x1 - x0) / (y1 - y0)), y
    if side := beyond(y1, last_y):
        y = border(side, last_y)
        x1, y1 = x1 + int((y - y1) * (x1 - x0) / (y1 - y0)), y
    if apart():
        return False, (x0, y0), (x1, y1)
    if side := beyond(x0, last_x):
        x = border(side, last_x)
        x0, y0 = x, y0 + int((x - x0) * (y1 - y0) / (x1 - x0))
    if side := beyond(x1, last_x):
        x = border(side, last_x)
        x1, y1 = x, y1 + int((x - x1) * (y1 - y0) / (x1 - x0))
    return True, (x0, y0), (x1, y1)
