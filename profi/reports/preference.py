"""Comparison of two rows by PickScore, and of two accuracies by Cohen's kappa."""

from __future__ import annotations

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from profi.reports.bootstrap import N_RESAMPLES, Sample, cluster_intervals
from profi.reports.differences import pairs_with_base
from profi.reports.names import metric_style, ordered_metrics, row_labels
from profi.reports.statistics import ROW, row_keys, validate


def preference_probability(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """The probability that the first of two pictures is preferred, from their PickScores.

    Args:
        one: float [n], the logits of the first pictures.
        two: float [n], the logits of the second pictures, for the same prompts.

    Returns:
        exp(one) / (exp(one) + exp(two)), [n] in [0, 1]; NaN if one of them is NaN.
    """
    # exp can overflow, tanh cannot.
    return 0.5 * (1.0 + np.tanh(0.5 * (np.asarray(one) - np.asarray(two))))


def preference_over_base(
    scores: pd.DataFrame,
    base: str = "base",
    *,
    metric: str = "pick_score",
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """How often a row's picture is preferred to its base's, for the same triplet and seed.

    `profi.reports.render.base_of` chooses a row's base.

    Args:
        scores: the long table of `profi.reports`.
        base: the ablation to compare with.
        metric: the metric with the logits.
        n_resamples: number of draws of the bootstrap over images.
        seed: seed of the bootstrap.

    Returns:
        Columns model, ablation, reading, probability (mean), low, high, n_pairs, n_unpaired
        (pairs with a missing or NaN side).

    Raises:
        UserError: see `profi.reports.statistics.validate`.
    """
    validate(scores)
    lines, samples = [], []
    for key, pairs in pairs_with_base(scores, metric, base):
        chance = preference_probability(
            pairs["value"].to_numpy(dtype=float), pairs["value_base"].to_numpy(dtype=float)
        )
        known = ~np.isnan(chance)
        samples.append(Sample(chance, pairs["image_id"].to_numpy()))
        lines.append(
            {
                **key._asdict(),
                "probability": float(chance[known].mean()) if known.any() else np.nan,
                "n_pairs": int(known.sum()),
                "n_unpaired": int((~known).sum()),
            }
        )
    intervals = cluster_intervals(samples, n_resamples=n_resamples, seed=seed)
    return pd.DataFrame(
        [line | interval._asdict() for line, interval in zip(lines, intervals, strict=True)],
        columns=[*ROW, "probability", "low", "high", "n_pairs", "n_unpaired"],
    )


def preference_facts(scores: pd.DataFrame) -> dict[str, str]:
    """`preference_over_base` as text, one entry per row; empty without PickScores."""
    labels = row_labels(row_keys(scores))
    by_key = {tuple(key): label for key, label in labels.items()}
    facts = {}
    for line in preference_over_base(scores).itertuples(index=False):
        label = by_key[(line.model, line.ablation, line.reading)]
        if line.n_pairs:
            unpaired = f", {line.n_unpaired} without a partner" if line.n_unpaired else ""
            facts[f"preferred to base: {label}"] = (
                f"{100 * line.probability:.1f} % by PickScore (95 %: {100 * line.low:.1f} to "
                f"{100 * line.high:.1f}; {line.n_pairs} pairs{unpaired})"
            )
    return facts


class Agreement(NamedTuple):
    """The share of `n` pictures that two metrics judge alike, and Cohen's kappa.

    kappa is 1 for full agreement and 0 for the agreement of independent judges.
    """

    n: int
    share: float
    kappa: float


def agreement(one: np.ndarray, two: np.ndarray) -> Agreement:
    """The agreement of two yes/no metrics over the same pictures (Cohen, 1960).

    Args:
        one: float [n]; positive is yes, 0 is no, NaN is no answer.
        two: float [n], the same for the other metric.

    Returns:
        kappa = (p - e) / (1 - e), where p is the share judged alike and e the share expected for
        independent judges with the same shares of yes. kappa is NaN if e is 1 (both always give
        the same answer). Share and kappa are NaN if no picture has both answers.
    """
    known = ~(np.isnan(one) | np.isnan(two))
    a, b = one[known] > 0, two[known] > 0
    if a.size == 0:
        return Agreement(0, math.nan, math.nan)
    share = float((a == b).mean())
    chance = float(a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean()))
    kappa = (share - chance) / (1 - chance) if chance < 1 else math.nan
    return Agreement(int(a.size), share, kappa)


def agreement_facts(scores: pd.DataFrame) -> dict[str, str]:
    """`agreement` as text for each pair of accuracies in the long table, over all rows."""
    accuracies = [m for m in ordered_metrics(scores["metric"]) if m.startswith("accuracy")]
    cell = [*ROW, "seed", "triplet_id"]
    facts = {}
    for first, second in combinations(accuracies, 2):
        one, two = (scores[scores["metric"] == name][[*cell, "value"]] for name in (first, second))
        pairs = one.merge(two, on=cell, suffixes=("_one", "_two"))
        found = agreement(
            pairs["value_one"].to_numpy(dtype=float), pairs["value_two"].to_numpy(dtype=float)
        )
        if found.n:
            kappa = "undefined" if math.isnan(found.kappa) else f"{found.kappa:.2f}"
            names = " and ".join(metric_style(name).label for name in (first, second))
            facts[f"agreement: {names}"] = (
                f"{100 * found.share:.1f} % of {found.n} pictures, kappa {kappa}"
            )
    return facts
