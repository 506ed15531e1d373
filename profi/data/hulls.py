"""Masks: filled convex hulls of an instance's polygons (paper, sec. 4.2), by two rules.

`exact`: pixel i is the square [i, i + 1]. A pixel is in the mask if the hull touches its inside. So
the mask covers the hull with no spare pixel; a line or a point has the pixels in which it lies.
`opencv`: coordinates lose their fractions, and the hull is filled as OpenCV fills it
(`profi.data.opencv`).
A hull may reach outside the image; the mask is its part inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from profi.data.opencv import fill_convex
from profi.settings.evaluation import Hull

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
