"""Masks: filled convex hulls of an instance's polygons (paper, sec. 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy.spatial import ConvexHull, QhullError

from profi.types import Triplet


def convex_hull(
    polygons: Sequence[Sequence[float]], height: int, width: int
) -> tuple[float, ...] | None:
    """The convex hull of all points of an instance's polygons, within the image.

    Args:
        polygons: flat lists x0, y0, x1, y1, ... in pixels.
        height: of the image; points outside of [0, width] x [0, height] are clipped to it.
        width: of the image.

    Returns:
        The hull's corners as a flat tuple, counterclockwise (y upwards) from a corner that depends
        on the set of points alone; None where fewer than three points are not on one line.
    """
    points = np.array([xy for flat in polygons for xy in zip(flat[::2], flat[1::2], strict=False)])
    if len(points) < 3 or not np.isfinite(points).all():
        return None
    # Sorted and unique, so that the order of the polygons leaves no trace.
    points = np.unique(np.clip(points, 0.0, [width, height]), axis=0)
    if len(points) < 3:
        return None
    try:
        corners = ConvexHull(points).vertices
    except QhullError:
        return None
    start = int(np.argmin(corners))
    return tuple(float(value) for value in points[np.roll(corners, -start)].ravel())


def hull_area(hull: Sequence[float]) -> float:
    """Area of a polygon x0, y0, x1, y1, ... in square pixels (shoelace formula)."""
    corners = np.reshape(np.asarray(hull, dtype=np.float64), (-1, 2))
    x, y = corners[:, 0], corners[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def hull_mask(triplet: Triplet) -> np.ndarray:
    """The mask of a triplet: bool [height, width], True = inpaint.

    Coordinates are taken as pixel indices and the outline belongs to the mask (PIL's convention),
    so a pixel is in whose index lies in the hull, and some that the outline passes.
    """
    canvas = Image.new("1", (triplet.width, triplet.height), 0)
    corners = list(zip(triplet.hull[::2], triplet.hull[1::2], strict=True))
    ImageDraw.Draw(canvas).polygon(corners, fill=1, outline=1)
    return np.array(canvas, dtype=np.bool_)
