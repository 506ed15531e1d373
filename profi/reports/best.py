"""Which row of a table may be called the best."""

from __future__ import annotations

import pandas as pd

from profi.reports.bootstrap import N_RESAMPLES, Sample, cluster_intervals
from profi.reports.names import RowKey, metric_style
from profi.reports.statistics import ROW

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
