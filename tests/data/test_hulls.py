from __future__ import annotations

import itertools

import numpy as np
import pytest

from profi.data.hulls import convex_hull, hull_area, hull_mask
from profi.types import Triplet


def triplet(hull: tuple[float, ...], height: int, width: int) -> Triplet:
    return Triplet("t", 1, 1, 1, "cat", "a.png", height, width, hull)


def extreme_points(points: np.ndarray) -> set[tuple[float, ...]]:
    """Brute force: a point is a corner of the hull iff no triangle of others holds it.

    With points in general position (random ones are), by Caratheodory's theorem.
    """

    def inside(p: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> bool:
        def cross(u: np.ndarray, v: np.ndarray) -> float:
            return float(u[0] * v[1] - u[1] * v[0])

        sides = [cross(b - a, p - a), cross(c - b, p - b), cross(a - c, p - c)]
        return all(s >= 0 for s in sides) or all(s <= 0 for s in sides)

    corners = set()
    for i, p in enumerate(points):
        others = np.delete(points, i, axis=0)
        if not any(inside(p, *three) for three in itertools.combinations(others, 3)):
            corners.add(tuple(p.tolist()))
    return corners


@pytest.mark.parametrize("seed", range(4))
def test_hull_is_that_of_brute_force(seed: int) -> None:
    points = np.random.default_rng(seed).uniform(0, 20, (12, 2))
    polygons = [points[:7].ravel().tolist(), points[7:].ravel().tolist()]
    hull = convex_hull(polygons, 20, 20)
    assert hull is not None
    assert set(zip(hull[::2], hull[1::2], strict=True)) == extreme_points(points)


@pytest.mark.parametrize("seed", range(4))
def test_mask_is_the_hull_to_its_outline(seed: int) -> None:
    """Against half-planes: the drawn outline is off by its rounding and its width, no more."""
    height, width = 30, 40
    points = np.random.default_rng(seed).uniform(0, 1, (9, 2)) * [width, height]
    hull = convex_hull([points.ravel().tolist()], height, width)
    assert hull is not None
    mask = hull_mask(triplet(hull, height, width))
    assert mask.shape == (height, width)
    corners = np.reshape(hull, (-1, 2))
    y, x = np.mgrid[:height, :width]
    depth = np.full((height, width), np.inf)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        edge = b - a
        distance = (edge[0] * (y - a[1]) - edge[1] * (x - a[0])) / np.hypot(*edge)
        depth = np.minimum(depth, distance)
    assert mask[depth > 1.5].all()
    assert not mask[depth < -1.5].any()


def test_order_of_polygons_and_points_leaves_no_trace() -> None:
    a, b = [1.0, 1.0, 9.0, 1.0, 5.0, 8.0], [2.0, 6.0, 8.0, 9.0, 3.0, 3.0]
    assert convex_hull([a, b], 10, 10) == convex_hull([b, a[2:] + a[:2]], 10, 10)


def test_points_outside_are_clipped_to_the_image() -> None:
    hull = convex_hull([[-5.0, -5.0, 50.0, -5.0, 50.0, 50.0, -5.0, 50.0]], 10, 20)
    assert hull is not None
    assert hull_area(hull) == pytest.approx(200.0)
    assert hull_mask(triplet(hull, 10, 20)).all()


@pytest.mark.parametrize(
    "polygons",
    [
        [],
        [[]],
        [[1.0, 1.0, 2.0, 2.0]],
        [[1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 7.0, 7.0]],
        [[3.0, 3.0, 3.0, 3.0, 3.0, 3.0]],
        [[20.0, 1.0, 30.0, 5.0, 25.0, 9.0]],
        [[1.0, 1.0, float("nan"), 2.0, 5.0, 9.0]],
    ],
    ids=["none", "empty", "two points", "a line", "one point", "outside", "not a number"],
)
def test_degenerate_polygons_have_no_hull(polygons: list[list[float]]) -> None:
    assert convex_hull(polygons, 10, 10) is None


def test_area_of_a_triangle() -> None:
    assert hull_area([0, 0, 4, 0, 0, 3]) == pytest.approx(6.0)
