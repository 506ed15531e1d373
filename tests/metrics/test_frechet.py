"""The Fréchet distance against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from profi.metrics.functional import frechet_distance

RNG = np.random.default_rng(0)


def whitened(n: int, d: int) -> np.ndarray:
    """A sample whose mean is 0 and whose covariance is exactly the identity."""
    x = RNG.normal(size=(n, d))
    x -= x.mean(0)
    values, vectors = np.linalg.eigh(np.cov(x, rowvar=False))
    return np.asarray(x @ vectors / np.sqrt(values) @ vectors.T)


def test_it_is_the_closed_form_of_two_gaussians_that_share_their_axes() -> None:
    x, y = whitened(200, 5), whitened(300, 5)
    s, t = RNG.uniform(0.5, 2, 5), RNG.uniform(0.5, 2, 5)
    shift = RNG.normal(size=5)
    expected = (shift**2).sum() + ((s - t) ** 2).sum()
    assert frechet_distance(x * s + shift, y * t) == pytest.approx(expected)


def test_it_is_the_matrix_root_s_value_for_any_covariances() -> None:
    x, y = RNG.normal(size=(80, 6)) @ RNG.normal(size=(6, 6)), RNG.normal(size=(90, 6)) + 1
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(x, y) == pytest.approx(expected)


def test_laws() -> None:
    x, y = RNG.normal(size=(50, 8)), RNG.normal(size=(40, 8)) * 2
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x))
    assert frechet_distance(3 * x, 3 * y) == pytest.approx(9 * frechet_distance(x, y))
    # Fewer samples than dimensions: covariances without an inverse.
    assert frechet_distance(x[:4], y[:4]) > 0


def test_samples_that_cannot_be_compared_are_refused() -> None:
    for a, b in (((1, 3), (5, 3)), ((5, 3), (5, 4)), ((5,), (5, 3))):
        with pytest.raises(ValueError, match="two samples"):
            frechet_distance(np.zeros(a), np.zeros(b))
