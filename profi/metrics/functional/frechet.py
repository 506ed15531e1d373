"""The Fréchet distance of two samples, as in the Fréchet Inception Distance."""

from __future__ import annotations

import numpy as np


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """d^2 = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of features [N, D] and [M, D].

    m and C are the means and the covariances, as if both samples were Gaussian (Dowson and Landau,
    1982; Heusel et al., 2017). It falls with the number of samples: compare only equal numbers.

    Raises:
        ValueError: a sample has fewer than two rows, or the widths differ.
    """
    a, b = (np.asarray(x, dtype=np.float64) for x in (first, second))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"features of shapes {a.shape} and {b.shape}: two samples [N, D], N >= 2")
    shift = a.mean(0) - b.mean(0)
    one, two = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    one, two = np.atleast_2d(one), np.atleast_2d(two)
    # C1 C2 has the eigenvalues of the symmetric C1^(1/2) C2 C1^(1/2).
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    overlap = np.sqrt(np.linalg.eigvalsh(root @ two @ root).clip(0)).sum()
    return float(shift @ shift + np.trace(one) + np.trace(two) - 2 * overlap)
