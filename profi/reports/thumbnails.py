"""Thumbnails, strips of pictures and distributions of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from profi.reports.names import RowKey, metric_style, ordered_metrics


@dataclass(frozen=True, eq=False)
class StripRow:
    """One triplet of a strip: its prompt and uint8 [H, W, 3] pictures by column title."""

    prompt: str
    pictures: dict[str, np.ndarray]


def outlined(
    image: np.ndarray,
    mask: np.ndarray,
    colour: tuple[int, int, int] = (255, 45, 85),
    width: int = 2,
) -> np.ndarray:
    """A copy of `image` (uint8 [H, W, 3]) with the outline of `mask` (bool [H, W]).

    The line is `width` pixels wide, one half inside the mask and one half outside.
    """
    inner = binary_erosion(mask, iterations=max(1, width // 2), border_value=1)
    outer = mask if width < 2 else binary_dilation(mask, iterations=width // 2)
    result = image.copy()
    result[outer & ~inner] = colour
    return result


def png_bytes(image: np.ndarray) -> bytes:
    """`image` (uint8 [H, W, 3]) as a lossless PNG."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def thumbnail(image: np.ndarray, side: int = 320) -> bytes:
    """`image` (uint8 [H, W, 3]) reduced to at most `side` pixels, as JPEG.

    An image that is not larger is not changed, and encoded as PNG.
    """
    if max(image.shape[:2]) <= side:
        return png_bytes(image)
    small = Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    small.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def comparison_strip(rows: Sequence[StripRow], path: Path, *, inches: float = 2.0) -> None:
    """Write a grid: one row per triplet, one column per picture (input, mask, base, ProFI).

    Args:
        rows: all with the same column titles, in the order to show them.
        path: the file to write; its suffix chooses the format.
        inches: side of one picture; an inch has 150 pixels.

    Raises:
        ValueError: no rows, or rows with different columns.
    """
    if not rows:
        raise ValueError("a strip needs at least one row")
    titles = list(rows[0].pictures)
    if any(list(row.pictures) != titles for row in rows):
        raise ValueError(f"every row of a strip needs the columns {titles}")
    # Not by pyplot, which has global state and may need a display.
    figure = Figure(
        figsize=(inches * len(titles), (inches + 0.12) * len(rows) + 0.25), layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for row, line in zip(rows, axes, strict=True):
        for title, axis in zip(titles, line, strict=True):
            axis.imshow(row.pictures[title], interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(row.prompt, fontsize=9)
    for title, axis in zip(titles, axes[0], strict=True):
        axis.set_title(title, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


WIDTH, HEIGHT = 100.0, 20.0
_BINS = 48
# The share of values cut off at each end, so that outliers do not stretch the scale.
_TAIL = 0.002


class Area(NamedTuple):
    """One row's density.

    `path` is an SVG path in a box of WIDTH x HEIGHT, y downwards; `mean_x` is on the same scale.
    """

    label: str
    path: str
    mean: str
    mean_x: float


class Distribution(NamedTuple):
    """One metric: its rows' areas on a common scale from `low` to `high`.

    `n_outside` values lie beyond the ends of the scale and are not drawn.
    """

    label: str
    low: str
    high: str
    n_outside: int
    areas: list[Area]


def distributions(scores: pd.DataFrame, labels: Mapping[RowKey, str]) -> list[Distribution]:
    """The distribution of each metric, except hits and misses: for them the mean is enough.

    Args:
        scores: the long table (`statistics.COLUMNS`); NaN are ignored.
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
    """The outline of bars with these heights (1 is the box's height)."""
    edges = np.linspace(0, WIDTH, len(heights) + 1)
    steps = [
        f"L{left:.2f} {HEIGHT * (1 - height):.2f}L{right:.2f} {HEIGHT * (1 - height):.2f}"
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True)
    ]
    return f"M0 {HEIGHT:g}{''.join(steps)}L{WIDTH:g} {HEIGHT:g}Z"
