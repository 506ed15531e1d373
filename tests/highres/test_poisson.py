"""The last blend: against OpenCV, a sparse direct solution, and laws."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.sparse.linalg import spsolve

from profi.highres.latent_masks import box_dilated
from profi.highres.poisson import _laplacian, dirichlet, poisson_blend, seamless_clone
from profi.settings.highres import HIGHRES
from profi.types import UserError

OURS, RELEASED = HIGHRES["ours"], HIGHRES["released"]


def picture(height: int, width: int, seed: int, sigma: float = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    waves = gaussian_filter(rng.normal(size=(height, width, 3)), (sigma, sigma, 0))
    return np.clip(waves * 90 * sigma + 128, 0, 255).astype(np.uint8)


def holes(height: int, width: int) -> dict[str, np.ndarray]:
    y, x = np.mgrid[:height, :width]
    return {
        "disc": (y - height * 0.45) ** 2 + (x - width * 0.5) ** 2 < (min(height, width) * 0.3) ** 2,
        "several parts": ((y // 20 % 2) & (x // 30 % 2)).astype(bool),
        "with a hole": (abs(y - height // 2) < 40)
        & (abs(x - width // 2) < 50)
        & ~((abs(y - height // 2) < 10) & (abs(x - width // 2) < 15)),
        "left border": (x < width // 3) & (abs(y - height // 2) < 30),
        "corner": (x < width // 3) & (y < height // 3),
        "both sides": abs(y - height // 2) < 20,
        "all but a pixel": (y > 0) | (x > 0),
    }


@pytest.mark.parametrize("name", holes(128, 160))
@pytest.mark.parametrize("size", [(128, 160), (131, 97)])
def test_seamless_clone_is_opencvs(name: str, size: tuple[int, int]) -> None:
    source, target, hole = picture(*size, 1), picture(*size, 2, 6), holes(*size)[name]
    # As the released code calls it: nothing at the edge, centred on the bounding box.
    hole[0] = hole[-1] = hole[:, 0] = hole[:, -1] = False
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    centre = (
        int(columns[0] + (columns[-1] + 1 - columns[0]) // 2),
        int(rows[0] + (rows[-1] + 1 - rows[0]) // 2),
    )
    grey = hole.astype(np.uint8) * 255
    theirs = cv2.seamlessClone(source, target, grey, centre, cv2.NORMAL_CLONE)
    ours = seamless_clone(source, target, hole)
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    assert difference.max() <= 1  # (float32 there, and truncated)
    assert (difference > 0).mean() < 0.02
    assert (theirs != target).any()


@pytest.mark.parametrize("where", ["inside", "left border", "corner", "whole"])
def test_the_released_blend_with_its_border_is_opencvs(where: str) -> None:
    H, W = 150, 180
    painted, image = picture(H, W, 1), picture(H, W, 2, 6)
    y, x = np.mgrid[:H, :W]
    mask = {
        "inside": (abs(y - 70) < 20) & (abs(x - 90) < 25),
        "left border": (x < 40) & (abs(y - 70) < 20),
        "corner": (x >= W - 30) & (y >= H - 25),
        "whole": np.ones((H, W), bool),
    }[where]
    # PROTOCOL section 8, by OpenCV and numpy alone.
    around = cv2.copyMakeBorder(painted, 32, 32, 32, 32, cv2.BORDER_REFLECT_101)
    target = around.copy()
    target[32:-32, 32:-32] = image
    hole = cv2.copyMakeBorder(mask.astype(np.uint8) * 255, 32, 32, 32, 32, cv2.BORDER_CONSTANT)
    hole = cv2.dilate(hole, np.ones((48, 48), np.uint8))
    left, top, width, height = cv2.boundingRect(hole)
    centre = (left + width // 2, top + height // 2)
    theirs = cv2.seamlessClone(around, target, hole, centre, cv2.NORMAL_CLONE)[32:-32, 32:-32]
    ours = poisson_blend(painted, image, mask, RELEASED)
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_a_box_grows_as_opencvs() -> None:
    mask = np.zeros((80, 90), bool)
    mask[40, 45] = mask[3, 2] = True
    for side in (1, 2, 5, 48):
        theirs = cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
        assert np.array_equal(box_dilated(mask, side), theirs)


@pytest.mark.parametrize("name", holes(128, 160))
def test_dirichlet_solves_poissons_equation(name: str) -> None:
    painted, image, hole = picture(128, 160, 1), picture(128, 160, 2, 6), holes(128, 160)[name]
    ours = dirichlet(painted, image, hole)
    assert np.array_equal(ours[~hole], image[~hole])
    matrix, edges, pixels = _laplacian(hole)
    difference = (image.astype(float) - painted).reshape(-1, 3)
    exact = painted.reshape(-1, 3)[pixels] + spsolve(matrix.tocsc(), edges @ difference)
    exact = np.clip(np.rint(exact), 0, 255)
    found = np.abs(ours.reshape(-1, 3)[pixels] - exact)
    assert found.max() <= 1
    assert (found > 0).mean() < 0.01


def test_a_large_hole_by_multigrid_has_the_painted_laplacian() -> None:
    """Law: the Laplacian of the result is the painted picture's, up to the rounding to bytes."""
    n = 400
    painted, image = picture(n, n, 1, 9), picture(n, n, 2, 14)
    painted, image = painted // 2 + 60, image // 2 + 60  # so that nothing is clipped
    y, x = np.mgrid[:n, :n]
    hole = (y - 200) ** 2 + (x - 190) ** 2 < 170**2
    ours = dirichlet(painted, image, hole).astype(float)

    def laplacian(p: np.ndarray) -> np.ndarray:
        p = p.astype(float)
        return p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * p[1:-1, 1:-1]

    inner = hole[1:-1, 1:-1] & hole[2:, 1:-1] & hole[:-2, 1:-1] & hole[1:-1, 2:] & hole[1:-1, :-2]
    error = (laplacian(ours) - laplacian(painted))[inner]
    assert np.abs(error).max() <= 4.5  # 8 roundings of half a level
    assert abs(error.mean()) < 0.01


def test_a_painted_picture_that_is_only_brighter_gives_the_image_back() -> None:
    image = picture(100, 120, 3) // 2 + 40
    for name, hole in holes(100, 120).items():
        again = dirichlet(image + 30, image, hole)
        assert np.abs(again.astype(int) - image).max() <= 1, name


def test_memory_grows_with_the_hole_and_not_with_the_picture() -> None:
    image = np.zeros((2000, 3000, 3), np.uint8)
    hole = np.zeros(image.shape[:2], bool)
    hole[1000:1040, 700:760] = True
    tracemalloc.start()
    dirichlet(image + 9, image, hole)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The painted picture, the result and the hole's rows and columns, and little else.
    assert peak < 3 * image.nbytes


def test_a_hole_in_a_part_of_the_picture_is_blended_as_alone() -> None:
    painted, image = picture(90, 110, 5), picture(90, 110, 6)
    for name, hole in holes(90, 110).items():
        framed = [np.pad(a, [(7, 9), (11, 3), (0, 0)], mode="edge") for a in (painted, image)]
        if hole[[0, -1]].any() or hole[:, [0, -1]].any():
            continue  # there the picture's edge counts
        found = dirichlet(*framed, np.pad(hole, [(7, 9), (11, 3)]))
        assert np.array_equal(found[7:-9, 11:-3], dirichlet(painted, image, hole)), name


def test_no_hole_and_nothing_but_hole() -> None:
    painted, image = picture(40, 50, 1), picture(40, 50, 2)
    none, every = np.zeros((40, 50), bool), np.ones((40, 50), bool)
    assert np.array_equal(dirichlet(painted, image, none), image)
    assert np.array_equal(dirichlet(painted, image, every), painted)
    with pytest.raises(UserError, match="empty"):
        seamless_clone(painted, image, none)


@pytest.mark.parametrize("poisson", ["dirichlet", "none"])
def test_nothing_changes_beyond_the_margin(poisson: str) -> None:
    painted, image = picture(150, 160, 1), picture(150, 160, 2)
    mask = np.zeros((150, 160), bool)
    mask[60:80, 70:100] = True
    ours = poisson_blend(painted, image, mask, replace(OURS, poisson=poisson, margin=21))
    changed = (ours != image).any(-1)
    grown = np.zeros_like(mask)
    grown[50:90, 60:110] = True
    assert not changed[~grown].any()
    assert changed[grown].mean() > 0.9


def test_with_opencv_the_bounding_box_is_what_changes() -> None:
    painted, image = picture(200, 200, 1), picture(200, 200, 2)
    y, x = np.mgrid[:200, :200]
    mask = (abs(y - x) < 6) & (y > 60) & (y < 140)
    ours = poisson_blend(painted, image, mask, RELEASED)
    changed = (ours != image).any(-1)
    hole = box_dilated(mask, 48)
    assert changed[~hole].any()
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = False
    assert not changed.any()
