"""The bootstrap over clusters: how the means vary with the sample of images.

Triplets of one image, and seeds of one triplet, are not independent. So whole images are
resampled, with all their triplets and seeds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

#: Number of draws. With a tenth of it, the ends of an accuracy's interval differ by half a point
#: between seeds.
N_RESAMPLES = 20_000
#: About this many clusters are drawn at once: 8 MB per array for any number of draws.
BLOCK = 2**20


class Interval(NamedTuple):
    """A two-sided interval; NaN if there are too few data for it."""

    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether zero lies outside the interval; False if the interval is unknown."""
        return self.low > 0 or self.high < 0


UNKNOWN = Interval(math.nan, math.nan)


class Sample(NamedTuple):
    """The values of a mean.

    `values` is float [n], NaN are ignored; `clusters` is [n], the cluster of each value (its image
    id); `weights` is float [n] > 0, or None for equal weights.
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
    """Percentile intervals of the samples' means, with whole clusters resampled.

    The mean of a draw is over all its values, so large clusters count more. Samples with the same
    number of clusters share the draws, which makes a table as fast as one entry. No interval
    depends on the other samples.

    Args:
        samples: the values, see `Sample`.
        confidence: level of the intervals.
        n_resamples: number of draws.
        seed: seed of the draws; equal arguments give equal intervals.

    Returns:
        One interval per sample; UNKNOWN for fewer clusters than `fewest_clusters`.
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
    """The least number of clusters for an interval: six for 95 %.

    Without an effect, all n clusters lie on the same side of zero with probability 2 / 2^n, and
    then the bootstrap interval excludes zero. This probability must not exceed 1 - confidence.
    """
    return max(2, math.ceil(math.log2(2 / (1 - confidence))))


def _per_cluster(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The sums of weighted values and of weights per cluster, float [n_clusters] each."""
    known = ~np.isnan(sample.values)
    values = sample.values[known]
    weights = np.ones(len(values)) if sample.weights is None else sample.weights[known]
    _, index = np.unique(sample.clusters[known], return_inverse=True)
    return np.bincount(index, weights=weights * values), np.bincount(index, weights=weights)


def _drawn_means(sums: np.ndarray, weights: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """The mean of each draw, [n_resamples, k], for k samples [n, k] over n clusters."""
    n, k = sums.shape
    rng = np.random.default_rng(seed)
    both = np.concatenate([sums, weights], axis=1)
    means = np.empty((n_resamples, k))
    at_once = max(1, BLOCK // n)
    for start in range(0, n_resamples, at_once):
        block = means[start : start + at_once]
        chosen = rng.integers(0, n, (len(block), n))
        # Count each cluster in each draw: one matrix product then gives all sums.
        chosen += n * np.arange(len(block))[:, None]
        times = np.bincount(chosen.ravel(), minlength=chosen.size).reshape(chosen.shape)
        totals = times.astype(float) @ both
        block[:] = totals[:, :k] / totals[:, k:]
    return means
