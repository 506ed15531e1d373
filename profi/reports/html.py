"""The report: one HTML file that needs nothing else, in any browser, without a network."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, StrictUndefined

from profi.atomic import write_text
from profi.reports.gallery import GalleryItem
from profi.reports.names import RowKey, metric_style, ordered_metrics, row_labels
from profi.reports.statistics import Expected, paired_difference, row_keys, summarise
from profi.reports.tables import paper_table2, table2

_MAGIC = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}


class Bar(NamedTuple):
    """A row's accuracy in one category, in per cent; `n` scores, NaN left out and counted."""

    label: str
    percent: float
    n: int
    n_nan: int


class Picture(NamedTuple):
    """One image of the gallery: `verdict` is "hit", "miss" or "" (not scored)."""

    caption: str
    source: str
    scores: str
    verdict: str


class Exhibit(NamedTuple):
    """One triplet of the gallery."""

    triplet_id: str
    prompt: str
    reason: str
    pictures: list[Picture]


def write_report(
    path: Path,
    scores: pd.DataFrame,
    gallery: Sequence[GalleryItem],
    facts: Mapping[str, Any],
    expected: Expected | None = None,
    *,
    base: str = "base",
) -> None:
    """Write the report of `scores` to `path`, one self-contained HTML file.

    Args:
        path: of the file, which appears whole or not at all.
        scores: the long table (`statistics.COLUMNS`).
        gallery: pictures of the chosen triplets, see `gallery.choose_gallery`; only these are
            embedded.
        facts: what is printed above: `experiment` becomes the title, `command` is shown as code,
            `quarantined` is a count; everything else (hashes, versions) as name and value.
        expected: what every line should hold, see `statistics.summarise`.
        base: the ablation that differences are taken to.

    Raises:
        UserError: see `statistics.validate`.
    """
    summary = summarise(scores, expected)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = resources.files("profi.reports") / "templates" / "report.html.j2"
    labels = row_labels(row_keys(summary))
    text = environment.from_string(template.read_text(encoding="utf-8")).render(
        title=str(facts.get("experiment", "Report")),
        command=facts.get("command"),
        quarantined=int(facts.get("quarantined", 0)),
        facts={
            name: value
            for name, value in facts.items()
            if name not in ("experiment", "command", "quarantined")
        },
        n_nan=int(scores["value"].isna().sum()),
        n_scores=len(scores),
        n_missing=int(summary["n_missing"].sum()),
        table=table2(summary, paper_table2()),
        differences=_differences(scores, base, labels),
        base=base,
        categories=_categories(scores, labels),
        row_names=list(labels.values()),
        exhibits=[_exhibit(item) for item in gallery],
    )
    write_text(path, text)


def _differences(
    scores: pd.DataFrame, base: str, labels: Mapping[RowKey, str]
) -> list[dict[str, str]]:
    """Printed paired differences in the tables' order."""
    lines = {}
    for line in paired_difference(scores, base).itertuples(index=False):
        key = RowKey(str(line.model), str(line.ablation), str(line.reading))
        decimals = metric_style(str(line.metric)).decimals
        # An interval away from 0 is the news of this table.
        low, high = float(line.low), float(line.high)
        better = metric_style(str(line.metric)).higher_is_better
        sign = ""
        if low > 0 or high < 0:
            sign = "up" if (low > 0) == better else "down"
        lines[key, str(line.metric)] = {
            "row": labels[key],
            "metric": metric_style(str(line.metric)).label,
            "difference": _signed(float(line.difference), decimals),
            "interval": "–"
            if math.isnan(low)
            else f"{_signed(low, decimals)} to {_signed(high, decimals)}",
            "pairs": f"{line.n_pairs}",
            "unpaired": f"{line.n_unpaired}" if line.n_unpaired else "",
            "sign": sign,
        }
    metrics = ordered_metrics(scores["metric"].astype(str))
    return [lines[key, metric] for metric in metrics for key in labels if (key, metric) in lines]


def _signed(value: float, decimals: int) -> str:
    return "–" if math.isnan(value) else f"{value:+.{decimals}f}".replace("-", "−")


def _categories(
    scores: pd.DataFrame, labels: Mapping[RowKey, str]
) -> list[tuple[str, int, list[Bar]]]:
    """(category, number of triplets, a bar per row), by name."""
    part = scores[scores["metric"] == "accuracy"]
    counts = part.groupby("category")["triplet_id"].nunique()
    bars: dict[str, list[Bar]] = {str(name): [] for name in counts.index}
    grouped = {
        (RowKey(str(model), str(ablation), str(reading)), str(category)): cells
        for (model, ablation, reading, category), cells in part.groupby(
            ["model", "ablation", "reading", "category"]
        )["value"]
    }
    for category, row_bars in bars.items():
        for key, label in labels.items():
            cells = grouped.get((key, category))
            if cells is not None:
                n_nan = int(cells.isna().sum())
                row_bars.append(Bar(label, float(cells.mean()), len(cells) - n_nan, n_nan))
    return [(name, int(counts[name]), bars[str(name)]) for name in counts.index]


def _exhibit(item: GalleryItem) -> Exhibit:
    pictures = [
        Picture("input", data_uri(item.input_png), "", ""),
        Picture("mask", data_uri(item.masked_png), "", ""),
    ]
    for label, image in item.outputs.items():
        values = item.scores.get(label, {})
        accuracy = values.get("accuracy", math.nan)
        verdict = "" if math.isnan(accuracy) else ("hit" if accuracy > 50 else "miss")
        printed = [
            f"{metric_style(metric).label} {values[metric]:.{metric_style(metric).decimals}f}"
            for metric in ordered_metrics(values)
            if metric != "accuracy" and not math.isnan(values[metric])
        ]
        pictures.append(Picture(label, data_uri(image), " · ".join(printed), verdict))
    return Exhibit(item.triplet_id, item.prompt, item.reason, pictures)


def data_uri(image: bytes) -> str:
    """`image` (PNG, JPEG or WebP bytes) as a data URI.

    Raises:
        ValueError: none of these.
    """
    for magic, kind in _MAGIC.items():
        if image.startswith(magic):
            return f"data:{kind};base64,{base64.b64encode(image).decode('ascii')}"
    raise ValueError(f"not a PNG, JPEG or WebP picture: starts with {image[:8]!r}")
