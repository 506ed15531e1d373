"""Paired differences of each row to its base: the interval of the mean, and McNemar's test.

A pair is one triplet painted with one seed by both rows, so from the same start noise.
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
    """The numbers of gained and lost pairs, and the test of their difference.

    `p_value` is two-sided, NaN without pairs; `test` is EXACT, CLUSTERED or NO_TEST.
    """

    n_gained: int
    n_lost: int
    p_value: float
    test: str


def mcnemar(differences: np.ndarray, clusters: np.ndarray) -> McNemar:
    """McNemar's test of paired hits and misses; pairs may share an image.

    If every image has one pair, the number b of gained pairs among b + c changed ones is binomial
    with probability 1/2 (the exact test). Pairs of one image are not independent. Then the changes
    are summed per image k, d_k = b_k - c_k, and (sum_k d_k)^2 / sum_k d_k^2 is chi-squared with
    one degree of freedom (Z. Yang, X. Sun, J. W. Hardin, "A note on the tests for clustered
    matched-pair binary data", Biometrical Journal 52, 2010). For single pairs this is McNemar's
    (b - c)^2 / (b + c).

    Args:
        differences: float [n], > 0 if a miss became a hit, < 0 if a hit became a miss, else 0; NaN
            are ignored.
        clusters: [n], the image id of each pair.
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
    """Each row except the bases, in order, with its pairs of one metric.

    `names.base_of` chooses a row's base. The pairs have the columns of `scores` and value_base; a
    value is NaN if that side is missing.
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
        of_base = nothing if partner is None else groups.get(partner, nothing)
        yield (
            key,
            groups[key].merge(
                of_base[[*cell, "value"]],
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
    """The differences of each ablation to its base (`names.base_of`) on the same (triplet, seed).

    Returns:
        Columns model, ablation, reading, metric, difference (mean), low, high (bootstrap over
        images, all seeds together), n_pairs, n_unpaired (pairs with a missing or NaN side);
        for a metric of hits and misses also n_gained, n_lost, p_value, test (see `mcnemar`; for
        other metrics 0, 0, NaN, NO_TEST).

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
    """For each metric the row that is clearly better than every other row, if there is one.

    Two rows are compared by their pairs of one (triplet, seed): the bootstrap interval of the mean
    difference must lie on the better side of zero. The row must win against all other rows, so
    the intervals need no correction for their number (an intersection-union test; R. L. Berger,
    Technometrics 24, 1982).

    Args:
        scores: the long table.
        summary: from `statistics.summarise`. Incomplete lines are ignored: they are never the
            best, and other rows need not beat them.
        confidence: level of the intervals.
        n_resamples: number of draws of the bootstrap.
        seed: seed of the bootstrap.

    Returns:
        The rows by metric. Metrics without such a row, or with fewer than two complete rows, are
        missing.
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
