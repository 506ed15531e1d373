"""The bootstrap over images, above all where images have unequally many triplets."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from profi.reports import bootstrap
from profi.reports.bootstrap import (
    UNKNOWN,
    Interval,
    Sample,
    cluster_bootstrap,
    cluster_intervals,
    fewest_clusters,
)
from profi.reports.differences import paired_difference
from profi.reports.preference import preference_over_base
from profi.reports.statistics import summarise


def test_two_images_by_hand():
    """Image A holds one 10, image B four 0. Drawn are AA (10), AB or BA (10 of 5: 2), BB (0)."""
    values, images = np.array([10.0, 0, 0, 0, 0]), np.array(list("ABBBB"))
    # A quarter, a half and a quarter of all draws.
    assert cluster_bootstrap(values, images, confidence=0.4) == (2.0, 2.0)
    assert cluster_bootstrap(values, images, confidence=0.49) == (2.0, 2.0)
    assert cluster_bootstrap(-values, images, confidence=0.49) == (-2.0, -2.0)


def every_draw(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """The means of all n^n draws of n clusters, written out."""
    members = [values[clusters == name] for name in np.unique(clusters)]
    draws = itertools.product(members, repeat=len(members))
    return np.array([np.concatenate(draw).mean() for draw in draws])


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.9, 0.95])
def test_unequal_clusters_against_all_draws(confidence):
    sizes = [1, 1, 2, 3, 5, 8]
    clusters = np.repeat(np.arange(6), sizes)
    # Large clusters score higher: the mean of cluster means is another number.
    values = clusters + np.random.default_rng(3).normal(0, 0.3, clusters.size)
    means = every_draw(values, clusters)
    tail = (1 - confidence) / 2
    ours = cluster_bootstrap(values, clusters, confidence=confidence)
    for end, share in zip(ours, (tail, 1 - tail), strict=True):
        # 20,000 draws meet a quantile to four standard errors of its share.
        error = 4 * math.sqrt(share * (1 - share) / 20_000)
        assert np.quantile(means, share - error) <= end <= np.quantile(means, share + error)


def clustered(rng: np.random.Generator, n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Images of 1, 2 or 9 values that are alike; those with many have higher ones."""
    sizes = rng.choice([1, 2, 9], n, p=[0.5, 0.3, 0.2])
    effects = rng.normal(0, 1, n) + (sizes == 9)
    images = np.repeat(np.arange(n), sizes)
    return effects[images] + rng.normal(0, 0.3, images.size), images


# 1.8 of 2.9 values in the mean are of large images, whose mean is 1.
TRUE_MEAN = 1.8 / 2.9


def coverage(interval: Callable[[np.ndarray, np.ndarray], Interval]) -> float:
    """In how many of 400 samples of images the interval holds the true mean."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        low, high = interval(*clustered(rng))
        hits += low <= TRUE_MEAN <= high
    return hits / 400


def test_the_interval_covers_as_often_as_it_says():
    # Three standard deviations of a share of 400 are 0.033.
    ours = coverage(lambda *sample: cluster_bootstrap(*sample, n_resamples=1000))
    assert ours == pytest.approx(0.95, abs=0.033)


def test_what_the_interval_is_not_covers_too_seldom():
    """The two mistakes: values drawn one by one, and images counted alike whatever their size."""

    def one_by_one(values: np.ndarray, images: np.ndarray) -> Interval:
        return cluster_bootstrap(values, np.arange(values.size), n_resamples=1000)

    def of_image_means(values: np.ndarray, images: np.ndarray) -> Interval:
        means = np.bincount(images, weights=values) / np.bincount(images)
        return cluster_bootstrap(means, np.arange(means.size), n_resamples=1000)

    assert coverage(one_by_one) < 0.8
    assert coverage(of_image_means) < 0.2


def uneven(make_scores: Callable[..., pd.DataFrame], metric: str) -> pd.DataFrame:
    """A long table of two seeds: image 0 has 12 of 40 triplets, others one to four."""
    ablations = ("base", "profi")
    scores = make_scores(40, (0, 1), ablations, ("clip_score",)).assign(metric=metric)
    sizes = [12, 1, 1, 2, 1, 3, 2, 4, 1, 2, 3, 1, 1, 2, 4]
    image_of = dict(enumerate(np.repeat(np.arange(15), sizes).tolist()))
    scores["image_id"] = scores["triplet_id"].astype(int).map(image_of)
    # All of an image alike, and the large one far off.
    scores["value"] += scores["image_id"] % 4 * (scores["ablation"] == "profi")
    scores.loc[(scores["ablation"] == "profi") & (scores["image_id"] == 0), "value"] += 8.0
    return scores.sample(frac=1, random_state=1)


def slow_bootstrap(values: pd.Series, images: pd.Series) -> tuple[float, float]:
    """Draw by draw, with the images' values joined."""
    rng = np.random.default_rng(99)
    members = [part.to_numpy() for _, part in values.groupby(images.to_numpy())]
    means = [
        np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))]).mean()
        for _ in range(4000)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def test_every_interval_of_a_report_draws_whole_images(make_scores):
    scores = uneven(make_scores, "pick_score")
    wide = scores.pivot(index=["seed", "triplet_id"], columns="ablation", values="value")
    images = scores.drop_duplicates("triplet_id").set_index("triplet_id")["image_id"]
    images = images.loc[wide.index.get_level_values("triplet_id")]
    gain = wide["profi"] - wide["base"]
    preferred = 1 / (1 + np.exp(-gain))
    mean = summarise(scores).set_index("ablation").loc["profi"]
    (difference,) = paired_difference(scores).to_dict("records")
    (preference,) = preference_over_base(scores).to_dict("records")
    for line, values in ((mean, wide["profi"]), (difference, gain), (preference, preferred)):
        oracle = slow_bootstrap(values, images)
        tolerance = 0.06 * (oracle[1] - oracle[0])
        assert (line["low"], line["high"]) == pytest.approx(oracle, abs=tolerance)


def test_bootstrap_approaches_the_normal_interval_of_cluster_means():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, 800)
    low, high = cluster_bootstrap(values, np.arange(800), n_resamples=4000)
    half = 1.96 * values.std() / math.sqrt(800)
    assert (high - low) / 2 == pytest.approx(half, rel=0.08)
    assert (high + low) / 2 == pytest.approx(values.mean(), abs=0.1 * half)


def test_bootstrap_against_scipy_on_single_clusters():
    values = np.random.default_rng(1).exponential(1, 60)
    oracle = stats.bootstrap(
        (values,), np.mean, n_resamples=6000, method="percentile", random_state=0
    ).confidence_interval
    ours = cluster_bootstrap(values, np.arange(60), n_resamples=6000)
    assert ours == pytest.approx((oracle.low, oracle.high), abs=0.02)


def test_repeating_every_image_tenfold_adds_no_certainty():
    values = np.random.default_rng(2).normal(0, 1, 40)
    once = cluster_bootstrap(values, np.arange(40))
    clustered = cluster_bootstrap(np.repeat(values, 10), np.repeat(np.arange(40), 10))
    naive = cluster_bootstrap(np.repeat(values, 10), np.arange(400))
    assert clustered == pytest.approx(once)
    assert naive.high - naive.low < 0.5 * (once.high - once.low)


def test_too_little_for_an_interval_is_unknown():
    assert all(map(math.isnan, cluster_bootstrap(np.ones(4), np.zeros(4))))
    assert all(map(math.isnan, cluster_bootstrap(np.full(4, np.nan), np.arange(4))))
    assert all(map(math.isnan, cluster_bootstrap(np.arange(5.0), np.arange(5))))
    assert cluster_bootstrap(np.ones(6), np.arange(6)) == (1.0, 1.0)
    assert not UNKNOWN.is_clear


@pytest.mark.parametrize(("confidence", "fewest"), [(0.4, 2), (0.8, 4), (0.9, 5), (0.95, 6)])
def test_so_few_clusters_agree_by_chance_too_often(confidence, fewest):
    """n coins show the same face with the chance 2 / 2^n."""
    assert fewest_clusters(confidence) == fewest
    assert 2 / 2**fewest <= 1 - confidence


def test_clear_is_what_excludes_zero():
    intervals = [(0.1, 2.0), (-2.0, -0.1), (0.0, 1.0), (-1.0, 0.0), (-1.0, 1.0)]
    assert [Interval(*ends).is_clear for ends in intervals] == [True, True, False, False, False]


def test_a_weight_of_three_is_three_equal_values():
    rng = np.random.default_rng(5)
    values, clusters = rng.normal(0, 1, 40), rng.integers(0, 10, 40)
    weights = rng.integers(1, 4, 40)
    repeated = cluster_bootstrap(np.repeat(values, weights), np.repeat(clusters, weights))
    assert cluster_bootstrap(values, clusters, weights.astype(float)) == pytest.approx(repeated)


def test_an_interval_depends_on_no_other_sample_and_on_no_order():
    rng = np.random.default_rng(6)
    samples = []
    for n in (30, 30, 12, 4):
        clusters = rng.integers(0, n, 100)
        samples.append(Sample(rng.normal(0, 1, 100), clusters))
    samples[1].values[:20] = math.nan
    alone = [cluster_bootstrap(*sample) for sample in samples]
    together = cluster_intervals(samples)
    assert np.array(together) == pytest.approx(np.array(alone), nan_ok=True)
    assert math.isnan(together[3].low)
    order = rng.permutation(100)
    shuffled = [Sample(sample.values[order], sample.clusters[order]) for sample in samples]
    assert np.array(cluster_intervals(shuffled)) == pytest.approx(np.array(alone), nan_ok=True)
    assert cluster_intervals([]) == []


def test_blocks_of_draws_do_not_change_them(monkeypatch):
    values, clusters = np.arange(50.0), np.arange(50) // 2
    whole = cluster_bootstrap(values, clusters)
    monkeypatch.setattr(bootstrap, "BLOCK", 90)
    assert cluster_bootstrap(values, clusters) == pytest.approx(whole)


def test_a_full_benchmark_is_a_matter_of_seconds():
    """The paired differences of 10,000 triplets on 4,284 images, 5 seeds, 3 rows, 3 metrics."""
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(10_000) * 4284 // 10_000, 5)
    samples = [Sample(rng.normal(0, 1, images.size), images) for _ in range(9)]
    start = time.perf_counter()
    intervals = cluster_intervals(samples)
    assert time.perf_counter() - start < 20
    for sample, interval in zip(samples, intervals, strict=True):
        assert interval.low < sample.values.mean() < interval.high
