"""Means and intervals of scores, with what is missing counted.

Two sources of chance are kept apart, and every line says which its interval is of. Over five
seeds and more it is the t-interval of the run means: what other seeds would give on the same
images. Of fewer means that interval says nothing (of two it is 12.7 standard errors wide); there
it is the bootstrap over images: what other images would give.
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
#: From so many seeds on an interval is over seeds.
SEEDS_FOR_T = 5


class Expected(NamedTuple):
    """What every line of a table should hold: a score per triplet and seed, for these rows."""

    triplets: frozenset[str]
    seeds: frozenset[int]
    rows: frozenset[RowKey] = frozenset()


def row_keys(scores: pd.DataFrame) -> list[RowKey]:
    """The rows that occur in a long table or a summary."""
    unique = scores[ROW].drop_duplicates()
    return [RowKey(*map(str, line)) for line in unique.itertuples(index=False)]


def validate(scores: pd.DataFrame) -> None:
    """Check that `scores` is the long table that this package reads.

    Raises:
        UserError: a column is missing, nothing is in it, or one cell is scored twice (two runs of
            one row that differ in something else must not be averaged together).
    """
    missing = [column for column in COLUMNS if column not in scores.columns]
    if missing:
        raise UserError(f"the scores table lacks {missing}: build it with {list(COLUMNS)}")
    if scores.empty:
        raise UserError("there are no scores to report: run `score` first")
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
    """mean +- t(n-1) s/sqrt(n) of `run_means` ([n]); NaN for n < 2."""
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
    """One line per (model, ablation, reading) and metric, lines of nothing included.

    The mean is that of the run means, and a run mean is over the values that are not NaN; how many
    are NaN is `n_nan`, and a seed of nothing but NaN is not among `n_seeds`. A line that lacks some
    of what it should hold has `n_missing` > 0 and is `incomplete`, hence not comparable.

    Args:
        scores: the long table.
        expected: what a line should hold. None takes all triplets and seeds that occur in the
            table, which cannot see what is missing from every line.
        confidence: of the intervals.
        n_resamples: of the bootstrap.
        seed: of the bootstrap.

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
    # Per line either its interval over seeds, or what to draw images of.
    known: dict[int, Interval] = {}
    samples: dict[int, Sample] = {}
    metrics = scores["metric"].unique()
    for place, key in enumerate(sorted((*row, metric) for row in rows for metric in metrics)):
        group = groups.get(key, scores.iloc[:0])
        wanted = group["triplet_id"].isin(expected.triplets) & group["seed"].isin(expected.seeds)
        run_means = group.groupby("seed")["value"].mean().dropna().to_numpy()
        if run_means.size >= SEEDS_FOR_T:
            known[place] = t_interval(run_means, confidence)
        else:
            samples[place] = _run_means_sample(group)
        n_missing = n_expected - int(wanted.sum())
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
    """The values of one line, weighted so that their mean is that of the run means."""
    per_run = group.groupby("seed")["value"].transform("count").to_numpy(dtype=float)
    # Ones where all runs have equally many, and no division by zero where a run has only NaN.
    weights = per_run.max(initial=1.0) / np.maximum(per_run, 1.0)
    return Sample(group["value"].to_numpy(dtype=float), group["image_id"].to_numpy(), weights)
