"""What each row gains on its base, pair by pair: the interval of the mean, and McNemar's test.

A pair is the same triplet painted with the same seed, hence from the same start noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from profi.reports.bootstrap import N_RESAMPLES, Sample, cluster_intervals
from profi.reports.names import RowKey, base_of, metric_style, ordered_rows
from profi.reports.statistics import ROW, row_keys, validate

EXACT = "McNemar, exact"
CLUSTERED = "McNemar, clustered by image"
NO_TEST = "none"


class McNemar(NamedTuple):
    """How many pairs were gained and lost, and how likely so uneven a split is by chance.

    `p_value` is two-sided, NaN without a pair; `test` is EXACT, CLUSTERED or NO_TEST.
    """

    n_gained: int
    n_lost: int
    p_value: float
    test: str


def mcnemar(differences: np.ndarray, clusters: np.ndarray) -> McNemar:
    """McNemar's test of paired hits and misses, made fit for pairs that share an image.

    Where every image has one pair, the b gained of b + c changed pairs are binomial with 1/2
    (exact). Pairs of one image are not independent; there the change is summed per image k,
    d_k = b_k - c_k, and (sum_k d_k)^2 / sum_k d_k^2 is chi-squared with one degree of freedom
    (Z. Yang, X. Sun, J. W. Hardin, "A note on the tests for clustered matched-pair binary data",
    Biometrical Journal 52, 2010), which for single pairs is McNemar's (b - c)^2 / (b + c).

    Args:
        differences: float [n], of one sign where a miss became a hit and of the other where a hit
            became a miss, else 0; NaN are left out.
        clusters: [n] labels of what belongs together (image ids).
    """
    known = ~np.isnan(differences)
    signs = np.sign(differences[known])
    n_gained, n_lost = int((signs > 0).sum()), int((signs < 0).sum())
    if not known.any():
        return McNemar(0, 0, math.nan, NO_TEST)
    _, index, sizes = np.unique(clusters[known], return_inverse=True, return_counts=True)
    if sizes.max() == 1:
        changed = n_gained + n_lost
        p_value = stats.binomtest(n_gained, changed, 0.5).pvalue if changed else 1.0
        return McNemar(n_gained, n_lost, float(p_value), EXACT)
    sums = np.bincount(index, weights=signs)
    spread = float((sums**2).sum())
    p_value = stats.chi2.sf(float(sums.sum()) ** 2 / spread, 1) if spread else 1.0
    return McNemar(n_gained, n_lost, float(p_value), CLUSTERED)


def pairs_with_base(
    scores: pd.DataFrame, metric: str, base: str = "base"
) -> Iterator[tuple[RowKey, pd.DataFrame]]:
    """Every row but the bases, in order, with its pairs of one (triplet, seed) in one metric.

    Which base a row is paired with: `names.base_of`. The pairs have the columns of `scores` and
    value_base; either value is NaN where that side is absent.
    """
    of_metric = scores[scores["metric"] == metric]
    rows = ordered_rows(row_keys(scores))
    groups = {RowKey(*map(str, key)): group for key, group in of_metric.groupby(ROW)}
    cell = ["seed", "triplet_id"]
    for key in rows:
        if key.ablation == base or key not in groups:
            continue
        partner = base_of(key, rows, base)
        nothing = of_metric.iloc[:0]
        theirs = nothing if partner is None else groups.get(partner, nothing)
        yield (
            key,
            groups[key].merge(
                theirs[[*cell, "value"]],
                on=cell,
                how="outer",
                suffixes=("", "_base"),
            ),
        )


def paired_difference(
    scores: pd.DataFrame,
    base: str = "base",
    *,
    confidence: float = 0.95,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """How much each ablation differs from its base (`names.base_of`) on the same (triplet, seed).

    Returns:
        Columns model, ablation, reading, metric, difference (mean), low, high (bootstrap over
        images, all seeds together), n_pairs, n_unpaired (pairs where either side is absent or
        NaN), and of a metric of hits and misses n_gained, n_lost, p_value, test (see `mcnemar`;
        for others 0, 0, NaN, NO_TEST).

    Raises:
        UserError: see `statistics.validate`.
    """
    validate(scores)
    lines, samples = [], []
    for metric in sorted(map(str, scores["metric"].unique())):
        for key, pairs in pairs_with_base(scores, metric, base):
            difference = (pairs["value"] - pairs["value_base"]).to_numpy(dtype=float)
            known = ~np.isnan(difference)
            difference, images = difference[known], pairs["image_id"].to_numpy()[known]
            samples.append(Sample(difference, images))
            test = McNemar(0, 0, math.nan, NO_TEST)
            if metric_style(metric).hit_or_miss:
                test = mcnemar(difference, images)
            lines.append(
                {
                    **key._asdict(),
                    "metric": metric,
                    "difference": float(difference.mean()) if known.any() else math.nan,
                    "n_pairs": int(known.sum()),
                    "n_unpaired": int((~known).sum()),
                    **test._asdict(),
                }
            )
    intervals = cluster_intervals(
        samples, confidence=confidence, n_resamples=n_resamples, seed=seed
    )
    columns = [*ROW, "metric", "difference", "low", "high", "n_pairs", "n_unpaired"]
    return pd.DataFrame(
        [line | interval._asdict() for line, interval in zip(lines, intervals, strict=True)],
        columns=[*columns, *McNemar._fields],
    )


CELL = ["seed", "triplet_id"]


def clear_best(
    scores: pd.DataFrame,
    summary: pd.DataFrame,
    *,
    confidence: float = 0.95,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> dict[str, RowKey]:
    """The row of each metric that is clearly better than every other one, where there is one.

    Rows are compared pair by pair of one (triplet, seed): the bootstrap interval over images of
    the mean difference must lie on the good side of zero. It must do so against each of the other
    rows, which makes more rows no reason for a stricter interval: a row that is not better than
    all has at least one comparison that errs with the chance of a single one (an
    intersection-union test; R. L. Berger, Technometrics 24, 1982).

    Args:
        scores: the long table.
        summary: what `statistics.summarise` made of it. Incomplete lines are left out: they are
            never the best, and the others need not beat them.
        confidence: of the intervals.
        n_resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        By metric; those without such a row, or with fewer than two complete ones, are absent.
    """
    rivals: list[tuple[str, RowKey]] = []
    samples: list[Sample] = []
    for metric, lines in summary[~summary["incomplete"]].groupby("metric"):
        means = lines.dropna(subset="mean").set_index(ROW)["mean"]
        if len(means) < 2:
            continue
        sign = 1.0 if metric_style(str(metric)).higher_is_better else -1.0
        leader = (sign * means).idxmax()
        part = scores[scores["metric"] == metric]
        values = part.pivot(index=CELL, columns=ROW, values="value")
        images = part.drop_duplicates(CELL).set_index(CELL)["image_id"].loc[values.index]
        for other in means.index.drop([leader]):
            gain = sign * (values[leader] - values[other])
            rivals.append((str(metric), RowKey(*map(str, leader))))
            samples.append(Sample(gain.to_numpy(dtype=float), images.to_numpy()))
    intervals = cluster_intervals(
        samples, confidence=confidence, n_resamples=n_resamples, seed=seed
    )
    beaten = dict.fromkeys(rivals, True)
    for rival, interval in zip(rivals, intervals, strict=True):
        beaten[rival] &= interval.low > 0
    return {metric: leader for (metric, leader), all_beaten in beaten.items() if all_beaten}
