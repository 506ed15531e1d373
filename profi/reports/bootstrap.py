"""The bootstrap over clusters: what another sample of images would have given.

Triplets of one image, and seeds of one triplet, are not independent. So whole images are drawn
anew, with everything that hangs on them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

#: Draws. With a tenth of them the end of an interval of accuracies moves by half a point when the
#: seed changes.
N_RESAMPLES = 20_000
#: Drawn at once are about so many clusters: 8 MB per array, whatever the number of draws.
BLOCK = 2**20


class Interval(NamedTuple):
    """A two-sided interval; NaN where there is too little to compute it from."""

    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether zero lies outside; of an unknown interval it does not."""
        return self.low > 0 or self.high < 0


UNKNOWN = Interval(math.nan, math.nan)


class Sample(NamedTuple):
    """What a mean is over.

    `values` is float [n], of which NaN are left out; `clusters` [n] the labels of what is drawn
    together (image ids); `weights` float [n] > 0, or None where all weigh the same.
    """

    values: np.ndarray
    clusters: np.ndarray
    weights: np.ndarray | None = None


def cluster_bootstrap(
    values: np.ndarray,
    clusters: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    confidence: float = 0.95,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """`cluster_intervals` of one sample."""
    samples = [Sample(values, clusters, weights)]
    return cluster_intervals(samples, confidence=confidence, n_resamples=n_resamples, seed=seed)[0]


def cluster_intervals(
    samples: Sequence[Sample],
    *,
    confidence: float = 0.95,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> list[Interval]:
    """Percentile intervals of the samples' means when whole clusters are drawn anew.

    A draw's mean is that of all its values: a cluster counts by its size. Samples of equally many
    clusters share the draws (so that a table takes as long as one of its entries), and no interval
    depends on the other samples.

    Args:
        samples: the values, see `Sample`.
        confidence: of the intervals.
        n_resamples: number of draws.
        seed: of the draws; equal arguments give equal intervals.

    Returns:
        An interval per sample. It is unknown for fewer clusters than `fewest_clusters`.
    """
    intervals = [UNKNOWN] * len(samples)
    sums_by_count: defaultdict[int, dict[int, tuple[np.ndarray, np.ndarray]]] = defaultdict(dict)
    for place, sample in enumerate(samples):
        sums, weights = _per_cluster(sample)
        if len(sums) >= fewest_clusters(confidence):
            sums_by_count[len(sums)][place] = sums, weights
    tail = (1 - confidence) / 2
    for group in sums_by_count.values():
        sums, weights = (np.stack(columns, axis=1) for columns in zip(*group.values(), strict=True))
        means = _drawn_means(sums, weights, n_resamples, seed)
        lows, highs = np.quantile(means, [tail, 1 - tail], axis=0)
        for place, low, high in zip(group, lows, highs, strict=True):
            intervals[place] = Interval(float(low), float(high))
    return intervals


def fewest_clusters(confidence: float) -> int:
    """How many clusters an interval needs at least: six for 95 %.

    n clusters of no effect all differ from zero to the same side with the chance 2 / 2^n, and the
    bootstrap's interval then excludes zero. That chance must not exceed 1 - confidence.
    """
    return max(2, math.ceil(math.log2(2 / (1 - confidence))))


def _per_cluster(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the weighted values and of the weights, float [number of clusters] each."""
    known = ~np.isnan(sample.values)
    values = sample.values[known]
    weights = np.ones(len(values)) if sample.weights is None else sample.weights[known]
    _, index = np.unique(sample.clusters[known], return_inverse=True)
    return np.bincount(index, weights=weights * values), np.bincount(index, weights=weights)


def _drawn_means(sums: np.ndarray, weights: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """The means of every draw, [n_resamples, k], of k samples [n, k] over n clusters."""
    n, k = sums.shape
    rng = np.random.default_rng(seed)
    both = np.concatenate([sums, weights], axis=1)
    means = np.empty((n_resamples, k))
    at_once = max(1, BLOCK // n)
    for start in range(0, n_resamples, at_once):
        block = means[start : start + at_once]
        chosen = rng.integers(0, n, (len(block), n))
        # How often each cluster is in each draw: the sums over a draw are then one product.
        chosen += n * np.arange(len(block))[:, None]
        times = np.bincount(chosen.ravel(), minlength=chosen.size).reshape(chosen.shape)
        totals = times.astype(float) @ both
        block[:] = totals[:, :k] / totals[:, k:]
    return means
