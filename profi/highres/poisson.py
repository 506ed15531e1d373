"""Poisson blending (Perez et al. 2003): the painted picture's gradients inside the given picture.

legend    I, painted    the given and the painted picture, uint8 [H, W, 3]
          hole          where the painted gradients count, bool [H, W]
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse
from scipy.fft import dstn, idstn
from scipy.ndimage import binary_erosion
from scipy.sparse.linalg import LinearOperator, cg, splu

from profi.highres.latent_masks import box_dilated
from profi.settings.highres import HighRes
from profi.types import UserError

#: Error of the solution, as a share of the correction's norm.
TOLERANCE = 1e-4
#: Unknowns that are solved for directly.
DIRECT = 4000
#: Pixels at the mask's edge in which OpenCV keeps the given gradients.
ERODED = 3
#: The damping of Jacobi's method, and the factor of a coarse correction: blocks of constant value
#: make the coarse equations about twice too stiff.
JACOBI, STRETCH = 0.8, 1.7


def poisson_blend(
    painted: np.ndarray, image: np.ndarray, mask: np.ndarray, settings: HighRes
) -> np.ndarray:
    """The last step of appendix E: uint8 [H, W, 3] of `painted` and `image` of the same form.

    `mask` [H, W] bool is the hole; it is dilated by a box of `settings.margin` pixels. Outside of
    the dilated mask the result is `image` bit for bit, except with `poisson="opencv"`, where the
    dilated mask's bounding box is what changes.
    """
    if settings.poisson == "opencv":
        return _as_released(painted, image, mask, settings)
    hole = box_dilated(mask, settings.margin)
    if settings.poisson == "none":
        return np.where(hole[..., None], painted, image)
    return dirichlet(painted, image, hole)


def _as_released(
    painted: np.ndarray, image: np.ndarray, mask: np.ndarray, settings: HighRes
) -> np.ndarray:
    """seamlessClone in a border: both pictures have the painted one's reflection around them."""
    b = settings.border
    ring = [(b, b), (b, b)]
    source = np.pad(painted, [*ring, (0, 0)], mode="reflect")
    target = source.copy()
    H, W = mask.shape
    target[b : b + H, b : b + W] = image
    hole = box_dilated(np.pad(mask, ring), settings.margin)
    return seamless_clone(source, target, hole)[b : b + H, b : b + W]


def seamless_clone(source: np.ndarray, target: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """OpenCV's seamlessClone (NORMAL_CLONE) centred on the hole's bounding box, to one level.

    Inside the bounding box of the hole (pixels at the pictures' edge do not count) Poisson's
    equation is solved with the target on the box's edge; the gradients are the source's in the
    hole, eroded by three pixels, and the target's elsewhere. So the target changes in all of the
    box. Raises UserError for a hole that is empty without the edge.
    """
    inner = np.zeros_like(hole)
    inner[1:-1, 1:-1] = hole[1:-1, 1:-1]
    if not inner.any():
        raise UserError("the mask is empty without the picture's edge: nothing to blend")
    rows, columns = np.flatnonzero(inner.any(1)), np.flatnonzero(inner.any(0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    result = target.copy()
    if min(inner[box].shape) > 2:
        result[box] = _clone_box(source[box], target[box], inner[box])
    return result


def _clone_box(source: np.ndarray, target: np.ndarray, hole: np.ndarray) -> np.ndarray:
    core = binary_erosion(hole, np.ones((3, 3)), iterations=ERODED)[..., None]
    known = target.astype(np.float64)
    cut = np.where(hole[..., None], source, 0).astype(np.float64)
    # (Forward differences; the last ones do not count.)
    gx = np.where(core[:, :-1], np.diff(cut, axis=1), np.diff(known, axis=1))
    gy = np.where(core[:-1], np.diff(cut, axis=0), np.diff(known, axis=0))
    divergence = np.diff(gx, axis=1)[1:-1] + np.diff(gy, axis=0)[:, 1:-1]
    # The known edge goes to the right side; then the sine transform diagonalises the Laplacian.
    divergence[0] -= known[0, 1:-1]
    divergence[-1] -= known[-1, 1:-1]
    divergence[:, 0] -= known[1:-1, 0]
    divergence[:, -1] -= known[1:-1, -1]
    h, w = divergence.shape[:2]
    by_row = 2 * np.cos(np.pi * np.arange(1, h + 1) / (h + 1))[:, None, None]
    by_column = 2 * np.cos(np.pi * np.arange(1, w + 1) / (w + 1))[:, None]
    waves = dstn(divergence, 1, axes=(0, 1)) / (by_row + by_column - 4)
    result = target.copy()
    result[1:-1, 1:-1] = np.clip(idstn(waves, 1, axes=(0, 1)), 0, 255)  # uint8 truncates
    return result


def dirichlet(painted: np.ndarray, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Poisson's equation in the hole, with the given picture at its edge; uint8, rounded.

    The result is painted + c, where c is harmonic in the hole and I - painted around it. The
    pictures' own edge is no edge of the hole: there c has no gradient across it. So a mask at the
    border or in a corner holds on to its other sides; a mask of the whole picture has no edge, and
    the result is `painted`.
    """
    if not hole.any() or hole.all():
        return painted.copy() if hole.all() else image.copy()
    # The equations know nothing beyond the hole's neighbours: memory grows with the hole alone.
    part = tuple(
        slice(max(0, where[0] - 1), where[-1] + 2)
        for where in (np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0)))
    )
    result = image.copy()
    result[part] = _solved(painted[part], image[part], hole[part])
    return result


def _solved(painted: np.ndarray, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """`dirichlet` of the hole's bounding box and its neighbours."""
    matrix, edges, pixels = _laplacian(hole)
    difference = image.astype(np.float64) - painted.astype(np.float64)
    right = edges @ difference.reshape(-1, difference.shape[-1])
    solve = multigrid(matrix, np.stack(np.divmod(pixels, hole.shape[1]), 1))
    step = LinearOperator(matrix.shape, matvec=solve, dtype=np.float64)
    result = image.copy().reshape(-1, image.shape[-1])
    for channel in range(result.shape[1]):
        correction, _ = cg(matrix, right[:, channel], rtol=TOLERANCE, atol=0.0, M=step)
        value = painted.reshape(-1, painted.shape[-1])[pixels, channel] + correction
        result[pixels, channel] = np.clip(np.rint(value), 0, 255)
    return result.reshape(image.shape)


def _laplacian(hole: np.ndarray) -> tuple[sparse.csr_array, sparse.csr_array, np.ndarray]:
    """(A, B, pixels): A c = B (I - painted) for the N unknowns, the flat indices of the hole."""
    pixels = np.flatnonzero(hole)
    number = np.full(hole.size, -1)
    number[pixels] = np.arange(len(pixels))
    grid = np.arange(hole.size).reshape(hole.shape)
    pairs = [(grid[:, :-1], grid[:, 1:]), (grid[:-1], grid[1:])]
    a = np.concatenate([np.concatenate([p.ravel(), q.ravel()]) for p, q in pairs])
    b = np.concatenate([np.concatenate([q.ravel(), p.ravel()]) for p, q in pairs])
    rows, to = number[a], number[b]
    mine = rows >= 0
    inside, outside = mine & (to >= 0), mine & (to < 0)
    n = len(pixels)

    def matrix(chosen: np.ndarray, columns: np.ndarray, width: int) -> sparse.csr_array:
        ones = np.ones(int(chosen.sum()))
        return sparse.csr_array((ones, (rows[chosen], columns[chosen])), (n, width))

    degree = np.bincount(rows[mine], minlength=n).astype(np.float64)
    laplacian = sparse.diags_array(degree) - matrix(inside, to, n)
    return sparse.csr_array(laplacian), matrix(outside, b, hole.size), pixels


def multigrid(matrix: sparse.csr_array, places: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A symmetric approximate inverse of a Laplacian, for conjugate gradients: one V-cycle.

    `places` [N, 2] are the unknowns' rows and columns. A level joins the unknowns of each 2 x 2
    block; Jacobi's method smooths.
    """
    if len(places) <= DIRECT:
        return splu(sparse.csc_matrix(matrix)).solve
    blocks, block = np.unique(places // 2, axis=0, return_inverse=True)
    n = len(places)
    join = sparse.csr_array((np.ones(n), (np.arange(n), block.ravel())), (n, len(blocks)))
    coarse = multigrid(sparse.csr_array(join.T @ matrix @ join), blocks)
    damped = JACOBI / matrix.diagonal()

    def cycle(right: np.ndarray) -> np.ndarray:
        right = right.ravel()
        x = damped * right
        x += damped * (right - matrix @ x)
        x += STRETCH * (join @ coarse(join.T @ (right - matrix @ x)))
        x += damped * (right - matrix @ x)
        return x + damped * (right - matrix @ x)

    return cycle
