"""Do two detectors say the same of the same pictures?"""

from __future__ import annotations

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from profi.reports.names import metric_style, ordered_metrics
from profi.reports.statistics import ROW


class Agreement(NamedTuple):
    """Of `n` pictures that both judged: the share judged alike, and Cohen's kappa.

    kappa is 1 for full agreement and 0 for that of two independent judges with the same habits.
    """

    n: int
    share: float
    kappa: float


def agreement(one: np.ndarray, two: np.ndarray) -> Agreement:
    """How far two yes/no metrics agree, picture by picture (Cohen, 1960).

    Args:
        one: float [n]; positive is yes, 0 is no, NaN is no answer.
        two: float [n], of the same pictures.

    Returns:
        kappa = (p - e) / (1 - e), with p the share judged alike and e what chance gives two judges
        with these shares of yes. It is NaN where e is 1 (both always say the same one thing), and
        both are NaN where no picture was judged twice.
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
    """`agreement` in words for every two accuracies in the long table, over all its rows."""
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
