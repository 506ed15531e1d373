"""Masks of triplets: filled convex hulls of polygons (paper, sec. 4.2), or run lengths.

A hull is filled by one of two rules.
`exact`: pixel i is the square [i, i + 1]. A pixel is in the mask if the hull touches its inside. So
the mask covers the hull with no spare pixel; a line or a point has the pixels in which it lies.
`opencv`: coordinates lose their fractions, and the hull is filled pixel for pixel as
`drawContours(..., thickness=FILLED)` does in OpenCV 4.12 to 5.0. Some earlier versions (4.8 and
4.10 among them) differ by single pixels next to a side. Every side is clipped to the image and
drawn as an 8-connected line (Bresenham). Then the rows between the sides are filled; the sides'
columns are in fixed point.
A hull may reach outside the image; the mask is its part inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import cast

import numpy as np
from pycocotools import mask as run_lengths

from profi.settings.evaluation import Hull
from profi.types import Triplet

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


Corner = tuple[float, float]


def hull_of(polygons: Iterable[Sequence[float]], rule: Hull) -> tuple[float, ...] | None:
    """The convex hull of all points of an instance's polygons.

    Args:
        polygons: flat lists x0, y0, x1, y1, ... in pixels.
        rule: how the hull becomes a mask; `opencv` truncates the points.

    Returns:
        The hull's corners as a flat tuple, clockwise (y points down). The first corner depends
        only on the set of points. A line has two corners, a point one. None if there is no point
        or a coordinate is not finite.
    """
    points = [xy for flat in polygons for xy in zip(flat[::2], flat[1::2], strict=False)]
    if not points or not all(math.isfinite(value) for point in points for value in point):
        return None
    if rule == "opencv":
        points = [(math.trunc(x), math.trunc(y)) for x, y in points]
    return tuple(float(value) for corner in _convex_hull(points) for value in corner)


def hull_area(hull: Sequence[float]) -> float:
    """Area of a polygon x0, y0, x1, y1, ... in square pixels (shoelace formula)."""
    corners = np.reshape(np.asarray(hull, dtype=np.float64), (-1, 2))
    x, y = corners[:, 0], corners[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def hull_mask(hull: Sequence[float], height: int, width: int, rule: Hull) -> np.ndarray:
    """The mask of a hull (`hull_of` by the same rule): bool [height, width], True = inpaint."""
    corners = list(zip(hull[::2], hull[1::2], strict=True))
    if rule == "opencv":
        return fill_convex([(int(x), int(y)) for x, y in corners], height, width)
    return _touched(corners, height, width)


def _convex_hull(points: Iterable[Corner]) -> list[Corner]:
    """The corners, without the points on the sides (Andrew's monotone chain)."""
    ordered = sorted(set(points))

    def chain(points: Iterable[Corner]) -> list[Corner]:
        found: list[Corner] = []
        for x, y in points:
            while len(found) > 1:
                (x0, y0), (x1, y1) = found[-2:]
                if (x1 - x0) * (y - y0) > (y1 - y0) * (x - x0):
                    break
                found.pop()
            found.append((x, y))
        return found[:-1]

    return chain(ordered) + chain(reversed(ordered)) if len(ordered) > 1 else ordered


def _touched(corners: Sequence[Corner], height: int, width: int) -> np.ndarray:
    """The pixels whose inside a convex polygon touches; for a line or a point, those it lies in.

    In one row of pixels a convex set is one interval, so its left and right ends are enough.
    """
    y = np.arange(height)
    left, right = np.full(height, np.inf), np.full(height, -np.inf)
    for start, end in pairwise([corners[-1], *corners]):
        (x0, y0), (x1, y1) = sorted((start, end), key=lambda corner: corner[1])
        meets = (y <= y1) & (y + 1 >= y0)
        for at in (np.clip(y, y0, y1), np.clip(y + 1, y0, y1)):
            share = (at - y0) / (y1 - y0) if y1 > y0 else np.zeros(height)
            x = np.where(at == y1, x1, x0 + share * (x1 - x0))
            left = np.where(meets, np.minimum(left, x), left)
            right = np.where(meets, np.maximum(right, x), right)
        if y0 == y1:
            # The loop above saw only one end of a horizontal side.
            left = np.where(meets, np.minimum(left, x0), left)
            right = np.where(meets, np.maximum(right, x0), right)
    rows = [value for _, value in corners]
    top, bottom = math.floor(min(rows)), max(math.ceil(max(rows)) - 1, math.floor(min(rows)))
    first = np.floor(left)
    last = np.maximum(np.ceil(right) - 1, first)
    columns = np.arange(width)
    within = ((y >= top) & (y <= bottom))[:, None]
    return within & (columns >= first[:, None]) & (columns <= last[:, None])


def triplet_mask(triplet: Triplet) -> np.ndarray:
    """The mask of a triplet: bool [height, width], True = inpaint."""
    if triplet.rle is None:
        rule = cast(Hull, triplet.filling)
        return hull_mask(triplet.hull, triplet.height, triplet.width, rule)
    size = [triplet.height, triplet.width]
    decoded = run_lengths.decode({"size": size, "counts": triplet.rle.encode()})
    return np.ascontiguousarray(decoded, dtype=np.bool_)


def mask_rle(mask: np.ndarray) -> str:
    """MSCOCO's compressed run lengths of a bool mask [H, W]; `triplet_mask` decodes them."""
    encoded = run_lengths.encode(np.asfortranarray(mask, dtype=np.uint8))
    counts: bytes = encoded["counts"]
    return counts.decode("ascii")
