"""PickScore between two runs: which picture of a triplet people would rather have."""

from __future__ import annotations

import numpy as np
import pandas as pd

from profi.reports.bootstrap import N_RESAMPLES, Sample, cluster_intervals
from profi.reports.differences import pairs_with_base
from profi.reports.names import row_labels
from profi.reports.statistics import ROW, row_keys, validate


def preference_probability(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """How likely the first of two pictures is preferred, from their PickScores.

    Args:
        one: float [n], the logits of the first pictures.
        two: float [n], those of the second ones, for the same prompts.

    Returns:
        exp(one) / (exp(one) + exp(two)), [n] in [0, 1]; NaN where either is.
    """
    # tanh neither overflows nor warns, which exp does.
    return 0.5 * (1.0 + np.tanh(0.5 * (np.asarray(one) - np.asarray(two))))


def preference_over_base(
    scores: pd.DataFrame,
    base: str = "base",
    *,
    metric: str = "pick_score",
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """How often a row's picture is preferred to that of `base` for the same triplet and seed.

    Which base a row is paired with: `profi.reports.names.base_of`.

    Args:
        scores: the long table of `profi.reports`.
        base: the ablation that the others are compared with.
        metric: the logits' name.
        n_resamples: of the bootstrap over images.
        seed: of the bootstrap.

    Returns:
        Columns model, ablation, reading, probability (mean), low, high, n_pairs, n_unpaired
        (either side absent or NaN).

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
    """`preference_over_base` in words, a line per row; empty where PickScore was not scored."""
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
