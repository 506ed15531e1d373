"""How a metric's values are spread, row by row on one scale: what the report draws as areas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from profi.reports.names import RowKey, metric_style, ordered_metrics

WIDTH, HEIGHT = 100.0, 20.0
_BINS = 48
# Beyond these shares of all values a few outliers would squeeze the rest into a corner.
_TAIL = 0.002


class Area(NamedTuple):
    """One row's density.

    `path` is an SVG path in a box of WIDTH x HEIGHT, y downwards; `mean_x` lies on the same scale.
    """

    label: str
    path: str
    mean: str
    mean_x: float


class Distribution(NamedTuple):
    """One metric: its rows' areas on a common scale from `low` to `high`, and the values left out.

    `n_outside` values lie beyond the scale's ends.
    """

    label: str
    low: str
    high: str
    n_outside: int
    areas: list[Area]


def distributions(scores: pd.DataFrame, labels: Mapping[RowKey, str]) -> list[Distribution]:
    """Every metric's, but for those of hits and misses, which a mean describes fully.

    Args:
        scores: the long table (`statistics.COLUMNS`); NaN are left out.
        labels: the rows' printed names, in order.
    """
    result = []
    for metric in ordered_metrics(scores["metric"].astype(str)):
        style = metric_style(metric)
        part = scores[(scores["metric"] == metric) & np.isfinite(scores["value"])]
        if style.hit_or_miss or part.empty:
            continue
        low, high = map(float, np.quantile(part["value"], [_TAIL, 1 - _TAIL]))
        if low == high:
            low, high = low - 0.5, high + 0.5
        grouped = {RowKey(*map(str, key)): cells for key, cells in part.groupby([*RowKey._fields])}
        histograms = {
            key: np.histogram(grouped[key]["value"], _BINS, (low, high))[0] / len(grouped[key])
            for key in labels
            if key in grouped
        }
        top = max(float(shares.max()) for shares in histograms.values()) or 1.0
        areas = []
        for key, shares in histograms.items():
            mean = float(grouped[key]["value"].mean())
            place = WIDTH * min(max((mean - low) / (high - low), 0.0), 1.0)
            areas.append(
                Area(labels[key], _path(shares / top), f"{mean:.{style.decimals}f}", place)
            )
        n_outside = int(((part["value"] < low) | (part["value"] > high)).sum())
        first, last = (f"{end:.{style.decimals}f}" for end in (low, high))
        result.append(Distribution(style.label, first, last, n_outside, areas))
    return result


def _path(heights: np.ndarray) -> str:
    """The outline of bars of these heights (1 is the box's)."""
    edges = np.linspace(0, WIDTH, len(heights) + 1)
    steps = [
        f"L{left:.2f} {HEIGHT * (1 - height):.2f}L{right:.2f} {HEIGHT * (1 - height):.2f}"
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True)
    ]
    return f"M0 {HEIGHT:g}{''.join(steps)}L{WIDTH:g} {HEIGHT:g}Z"
