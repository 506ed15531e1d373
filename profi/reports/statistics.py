"""Means and intervals of scores, and the number of missing ones.

Seeds and images are two sources of chance, and each line names the source of its interval. With
five seeds or more it is the t-interval of the run means: the variation over seeds on the same
images. With fewer seeds this interval is too wide (for two means, its half width is 12.7 standard
errors), and the bootstrap over images takes its place: the variation over images.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from profi.reports.bootstrap import (
    N_RESAMPLES,
    UNKNOWN,
    Interval,
    Sample,
    cluster_intervals,
)
from profi.reports.names import RowKey
from profi.types import UserError

COLUMNS = (
    "model",
    "ablation",
    "reading",
    "seed",
    "triplet_id",
    "image_id",
    "category",
    "metric",
    "value",
    "run_id",
)
ROW = ["model", "ablation", "reading"]
T_INTERVAL = "t over seeds"
BOOTSTRAP = "bootstrap over images"
NO_INTERVAL = "none"
_SUMMARY = (
    "mean",
    "low",
    "high",
    "half_width",
    "interval",
    "n_seeds",
    "n_triplets",
    "n_nan",
    "n_missing",
    "incomplete",
    "run_ids",
)
#: With this many seeds or more, an interval is over seeds.
SEEDS_FOR_T = 5


class Expected(NamedTuple):
    """The scores that a table should have: one per triplet and seed, for these rows."""

    triplets: frozenset[str]
    seeds: frozenset[int]
    rows: frozenset[RowKey] = frozenset()


def row_keys(scores: pd.DataFrame) -> list[RowKey]:
    """The rows of a long table or a summary."""
    unique = scores[ROW].drop_duplicates()
    return [RowKey(*map(str, line)) for line in unique.itertuples(index=False)]


def validate(scores: pd.DataFrame) -> None:
    """Check that `scores` is a long table of this package.

    Raises:
        UserError: a column is missing, the table is empty, or a cell has two scores (two different
            runs of one row must not be averaged).
    """
    missing = [column for column in COLUMNS if column not in scores.columns]
    if missing:
        raise UserError(f"the scores table lacks {missing}: build it with {list(COLUMNS)}")
    if scores.empty:
        raise UserError("there are no scores to report: run stage=score first")
    key = [*ROW, "seed", "triplet_id", "metric"]
    twice = scores.duplicated(key, keep=False)
    if twice.any():
        first = scores[twice].iloc[0]
        runs = sorted(set(scores.loc[twice, "run_id"].astype(str)))
        raise UserError(
            f"several scores of one cell ({first['model']}/{first['ablation']}/{first['reading']}, "
            f"seed {first['seed']}, {first['metric']}) from runs {', '.join(runs[:4])}: "
            "report on one run per row and seed"
        )


def t_interval(run_means: np.ndarray, confidence: float = 0.95) -> Interval:
    """mean +- t(n-1) s/sqrt(n) of `run_means` ([n]); UNKNOWN for n < 2."""
    n = run_means.size
    if n < 2:
        return UNKNOWN
    mean = float(run_means.mean())
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1) * run_means.std(ddof=1) / math.sqrt(n))
    return Interval(mean - half, mean + half)


def summarise(
    scores: pd.DataFrame,
    expected: Expected | None = None,
    *,
    confidence: float = 0.95,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """One line per (model, ablation, reading) and metric, also for rows without scores.

    The mean is over the run means, and a run mean is over the values that are not NaN. `n_nan`
    counts the NaN; `n_seeds` counts the seeds with a value. A line with `n_missing` > 0 lacks
    expected scores; it is `incomplete` and cannot be compared.

    Args:
        scores: the long table.
        expected: the expected scores. None stands for all triplets and seeds of the table; then
            what all lines lack is not counted.
        confidence: level of the intervals.
        n_resamples: number of draws of the bootstrap.
        seed: seed of the bootstrap.

    Returns:
        Columns model, ablation, reading, metric, mean, low, high, half_width, interval (T_INTERVAL,
        BOOTSTRAP or NO_INTERVAL), n_seeds, n_triplets, n_nan, n_missing,
        incomplete, run_ids (joined by spaces).

    Raises:
        UserError: see `validate`.
    """
    validate(scores)
    if expected is None:
        expected = Expected(
            frozenset(scores["triplet_id"].unique()), frozenset(scores["seed"].unique())
        )
    n_expected = len(expected.triplets) * len(expected.seeds)
    groups = dict(iter(scores.groupby([*ROW, "metric"])))
    rows = expected.rows | set(row_keys(scores))
    lines: list[dict[str, object]] = []
    # Each line has either an interval over seeds or a sample for the bootstrap.
    known: dict[int, Interval] = {}
    samples: dict[int, Sample] = {}
    metrics = scores["metric"].unique()
    for place, key in enumerate(sorted((*row, metric) for row in rows for metric in metrics)):
        group = groups.get(key, scores.iloc[:0])
        counted = group["triplet_id"].isin(expected.triplets) & group["seed"].isin(expected.seeds)
        run_means = group.groupby("seed")["value"].mean().dropna().to_numpy()
        if run_means.size >= SEEDS_FOR_T:
            known[place] = t_interval(run_means, confidence)
        else:
            samples[place] = _run_means_sample(group)
        n_missing = n_expected - int(counted.sum())
        lines.append(
            {
                **dict(zip([*ROW, "metric"], key, strict=True)),
                "mean": float(run_means.mean()) if run_means.size else math.nan,
                "n_seeds": run_means.size,
                "n_triplets": group["triplet_id"].nunique(),
                "n_nan": int(group["value"].isna().sum()),
                "n_missing": n_missing,
                "incomplete": n_missing > 0,
                "run_ids": " ".join(sorted(map(str, group["run_id"].unique()))),
            }
        )
    drawn = cluster_intervals(
        list(samples.values()), confidence=confidence, n_resamples=n_resamples, seed=seed
    )
    for place, interval in (known | dict(zip(samples, drawn, strict=True))).items():
        kind = T_INTERVAL if place in known else BOOTSTRAP
        lines[place] |= {
            **interval._asdict(),
            "half_width": (interval.high - interval.low) / 2,
            "interval": NO_INTERVAL if math.isnan(interval.low) else kind,
        }
    return pd.DataFrame(lines)[[*ROW, "metric", *_SUMMARY]]


def _run_means_sample(group: pd.DataFrame) -> Sample:
    """The values of one line, weighted so that their mean is the mean of the run means."""
    per_run = group.groupby("seed")["value"].transform("count").to_numpy(dtype=float)
    # Weights are 1 if all runs have equally many values. A run with only NaN must not divide by 0.
    weights = per_run.max(initial=1.0) / np.maximum(per_run, 1.0)
    return Sample(group["value"].to_numpy(dtype=float), group["image_id"].to_numpy(), weights)
