from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from profi.data.masks import fill_convex, hull_area, hull_mask, hull_of

Polygon = list[tuple[float, float]]


def corners_of(hull: tuple[float, ...]) -> Polygon:
    return list(zip(hull[::2], hull[1::2], strict=True))


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
    hull = hull_of(polygons, "exact")
    assert hull is not None
    assert set(corners_of(hull)) == extreme_points(points)


def test_order_of_polygons_and_points_leaves_no_trace() -> None:
    a, b = [1.0, 1.0, 9.0, 1.0, 5.0, 8.0], [2.0, 6.0, 8.0, 9.0, 3.0, 3.0]
    for rule in ("exact", "opencv"):
        assert hull_of([a, b], rule) == hull_of([b, a[2:] + a[:2], a], rule)


@pytest.mark.parametrize(
    ("polygons", "corners"),
    [
        ([], None),
        ([[]], None),
        ([[1.0, 1.0, float("nan"), 2.0, 5.0, 9.0]], None),
        ([[3.0, 3.0, 3.0, 3.0]], [(3, 3)]),
        ([[1.0, 1.0, 2.0, 2.0]], [(1, 1), (2, 2)]),
        ([[1.0, 1.0, 3.0, 3.0], [2.0, 2.0, 7.0, 7.0]], [(1, 1), (7, 7)]),
        ([[0.0, 0.0, 4.0, 0.0, 4.0, 4.0, 2.0, 4.0, 0.0, 4.0]], [(0, 0), (4, 0), (4, 4), (0, 4)]),
    ],
    ids=["none", "empty", "not a number", "one point", "two points", "a line", "on a side"],
)
def test_hulls_of_few_points(polygons: list[list[float]], corners: Polygon | None) -> None:
    for rule in ("exact", "opencv"):
        hull = hull_of(polygons, rule)
        assert (None if hull is None else corners_of(hull)) == corners


def test_opencv_s_points_lose_their_fractions() -> None:
    hull = hull_of([[-0.9, 1.999, 7.5, 1.0, 7.5, 8.2]], "opencv")
    assert hull is not None
    assert set(corners_of(hull)) == {(0, 1), (7, 1), (7, 8)}


def clipped(polygon: Polygon, i: int, j: int) -> Polygon:
    """Sutherland and Hodgman: the part of a convex polygon in pixel (i, j)."""
    for axis, sign, limit in ((0, 1, i), (0, -1, i + 1), (1, 1, j), (1, -1, j + 1)):
        kept: Polygon = []
        for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            depth_a, depth_b = sign * (a[axis] - limit), sign * (b[axis] - limit)
            if depth_a >= 0:
                kept.append(a)
            if (depth_a >= 0) != (depth_b >= 0):
                t = depth_a / (depth_a - depth_b)
                kept.append((a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])))
        polygon = kept
    return polygon


@pytest.mark.parametrize("grid", [None, 1, 2], ids=["floats", "integers", "halves"])
def test_the_exact_mask_is_every_pixel_that_the_hull_has_a_part_in(grid: int | None) -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        height, width = (int(n) for n in rng.integers(3, 14, 2))
        points = rng.uniform(-3, (width + 3, height + 3), (int(rng.integers(3, 9)), 2))
        if grid is not None:
            points = np.round(points * grid) / grid
        hull = hull_of([points.ravel().tolist()], "exact")
        assert hull is not None
        if hull_area(hull) < 1e-9:
            continue
        expected = [
            [hull_area(np.ravel(clipped(corners_of(hull), i, j))) > 1e-9 for i in range(width)]
            for j in range(height)
        ]
        np.testing.assert_array_equal(hull_mask(hull, height, width, "exact"), expected)


@pytest.mark.parametrize(
    ("points", "pixels"),
    [
        ([2.3, 1.7], {(1, 2)}),
        ([2.0, 1.0], {(1, 2)}),
        ([2.3, 1.5, 2.4, 3.2], {(1, 2), (2, 2), (3, 2)}),
        ([2.0, 1.5, 2.0, 3.2], {(1, 2), (2, 2), (3, 2)}),
        ([1.5, 3.0, 3.5, 3.0], {(3, 1), (3, 2), (3, 3)}),
        ([0.5, 0.5, 2.5, 2.5], {(0, 0), (1, 1), (2, 2)}),
        ([-3.0, 1.5, 1.5, 1.5], {(1, 0), (1, 1)}),
    ],
    ids=["point", "corner", "column", "border", "row", "diagonal", "from outside"],
)
def test_the_exact_mask_of_a_line_or_a_point_is_the_pixels_it_lies_in(
    points: list[float], pixels: set[tuple[int, int]]
) -> None:
    hull = hull_of([points], "exact")
    assert hull is not None
    mask = hull_mask(hull, 5, 6, "exact")
    assert {(int(y), int(x)) for y, x in np.argwhere(mask)} == pixels


def test_the_exact_mask_of_whole_pixels_is_these_pixels() -> None:
    hull = hull_of([[2.0, 2.0, 12.0, 2.0, 12.0, 9.0, 2.0, 9.0]], "exact")
    assert hull is not None
    expected = np.zeros((20, 30), bool)
    expected[2:9, 2:12] = True
    np.testing.assert_array_equal(hull_mask(hull, 20, 30, "exact"), expected)


def test_no_hull_is_shifted() -> None:
    """Over many small hulls the exact mask's centre is the polygon's; half a pixel would show."""
    rng = np.random.default_rng(1)
    shifts = []
    for _ in range(200):
        points = rng.uniform((10, 10), (50, 40), (6, 2))
        hull = hull_of([points.ravel().tolist()], "exact")
        assert hull is not None
        ys, xs = np.nonzero(hull_mask(hull, 50, 60, "exact"))
        moments = cv2.moments(np.reshape(hull, (-1, 2)).astype(np.float32))
        centre = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
        shifts.append((xs.mean() + 0.5 - centre[0], ys.mean() + 0.5 - centre[1]))
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.05


def opencv_mask(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """What OpenCV itself makes of points [N, 2]."""
    canvas = np.zeros((height, width), np.uint8)
    hull = cv2.convexHull(points.astype(np.int32))
    cv2.drawContours(canvas, [hull], -1, 1, cv2.FILLED)
    return canvas.astype(bool)


@pytest.mark.parametrize(
    ("reach", "largest", "count"),
    [(0, 60, 800), (1, 60, 800), (20, 60, 800), (300, 60, 400), (1, 640, 100)],
    ids=["within", "on the border", "out of the picture", "far out", "large"],
)
def test_opencv_s_hull_is_opencv_s(reach: int, largest: int, count: int) -> None:
    """Of one point, of two, of many; on a line; a side's end on or beyond the border."""
    rng = np.random.default_rng(reach + largest)
    smallest = largest // 2 if largest > 100 else 1
    differing = []
    for number in range(count):
        height, width = (int(n) for n in rng.integers(smallest, largest, 2))
        n_points = int(rng.integers(1, 14 if largest < 100 else 200))
        low = -reach if reach > 1 else 0
        points = rng.uniform(low, (width + reach, height + reach), (n_points, 2))
        if number % 3 == 0:
            points *= rng.uniform(0, 1, 2)
        if number % 7 == 0:
            points[:, number % 2] = points[0, number % 2]
        hull = hull_of([points.ravel().tolist()], "opencv")
        assert hull is not None
        got = hull_mask(hull, height, width, "opencv")
        if not np.array_equal(got, opencv_mask(points, height, width)):
            differing.append(number)
    assert differing == []


def test_opencv_paints_lines_and_points() -> None:
    """What PIL's polygon of three points on a line, or hulls by Qhull, would leave out."""
    for points, count in (([5, 5, 15, 15, 30, 30], 26), ([20, 20, 22, 24], 5), ([7, 7], 1)):
        hull = hull_of([points], "opencv")
        assert hull is not None
        assert hull_mask(hull, 48, 64, "opencv").sum() == count


def test_nothing_of_a_polygon_beside_the_picture() -> None:
    assert not fill_convex([(70, 3), (90, 3), (80, 9)], 48, 64).any()
    assert not hull_mask((70.5, 3.0, 90.0, 3.0, 80.0, 9.0), 48, 64, "exact").any()


def test_area_of_a_triangle() -> None:
    assert hull_area([0, 0, 4, 0, 0, 3]) == pytest.approx(6.0)
