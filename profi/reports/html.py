"""The page: one HTML file with all tables and a few pictures.

It loads nothing from the network. Its gallery lies in a folder next to it; without that folder the
page lacks only the gallery, and shows a note.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from profi.atomic import write_text
from profi.reports.gallery import FOLDER, INDEX, GalleryItem, data_uri
from profi.reports.names import RowKey, metric_style, ordered_metrics, row_labels
from profi.reports.statistics import row_keys
from profi.reports.tables import Table
from profi.reports.thumbnails import HEIGHT, WIDTH, distributions

# The page lists at most this many failures.
LISTED = 200


class Failure(NamedTuple):
    """A sample that failed and is still missing: its row, seed, stage and the reason."""

    row: str
    seed: int
    triplet_id: str
    stage: str
    reason: str


class Missing(NamedTuple):
    """What the runs still lack, one line each, and the commands that make it."""

    lines: list[str]
    commands: list[str]


@dataclass(frozen=True)
class Page:
    """The contents of the page.

    Attributes:
        scores: the long table (`statistics.COLUMNS`).
        tables: the tables, in order.
        facts: the page's head: `experiment` is the title, `command` is shown as code, all others
            (hashes, versions) as name and value.
        highlights: the triplets whose pictures are in the file itself.
        n_browsable: number of triplets in the gallery (`gallery.write_gallery`).
        failures: the failed samples.
        missing: what the runs lack.
        n_missing: number of missing scores.
        remarks: further results, as name and value, below the tables.
    """

    scores: pd.DataFrame
    tables: Sequence[Table]
    facts: Mapping[str, Any]
    highlights: Sequence[GalleryItem] = ()
    n_browsable: int = 0
    failures: Sequence[Failure] = ()
    missing: Missing = field(default_factory=lambda: Missing([], []))
    n_missing: int = 0
    remarks: Mapping[str, str] = field(default_factory=dict)


class Bar(NamedTuple):
    """A row's accuracy in one category, in per cent, over `n` scores; `n_nan` are NaN."""

    label: str
    percent: float
    n: int
    n_nan: int


class Picture(NamedTuple):
    """One image of a highlight: `verdict` is "hit", "miss" or "" (not scored)."""

    caption: str
    source: str
    scores: Sequence[str]
    verdict: str


class Exhibit(NamedTuple):
    """A highlight: one triplet with its pictures."""

    triplet_id: str
    prompt: str
    reason: str
    pictures: list[Picture]


def templates_of(package: str) -> Environment:
    """The templates in a package's folder `templates`; values are escaped, and none may lack."""
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_report(path: Path, page: Page) -> None:
    """Write `page` to `path`; the file appears whole or not at all."""
    environment = templates_of("profi.reports")
    labels = row_labels(row_keys(page.scores))
    text = environment.get_template("report.html.j2").render(
        title=str(page.facts.get("experiment", "Report")),
        command=page.facts.get("command"),
        facts={
            name: value
            for name, value in page.facts.items()
            if name not in ("experiment", "command")
        },
        n_nan=int(page.scores["value"].isna().sum()),
        n_scores=len(page.scores),
        n_missing=page.n_missing,
        missing=page.missing,
        failures=page.failures[:LISTED],
        n_failures=len(page.failures),
        tables=page.tables,
        remarks=page.remarks,
        distributions=distributions(page.scores, labels),
        box=(WIDTH, HEIGHT),
        categories=_categories(page.scores, labels),
        exhibits=[_exhibit(item) for item in page.highlights],
        n_browsable=page.n_browsable,
        index=f"{FOLDER}/{INDEX}",
        gallery_folder=FOLDER,
    )
    write_text(path, text)


def _categories(
    scores: pd.DataFrame, labels: Mapping[RowKey, str]
) -> list[tuple[str, int, list[Bar]]]:
    """(category, number of triplets, one bar per row), sorted by category."""
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
    pictures = [Picture("input, mask", data_uri(item.masked), (), "")] if item.masked else []
    for label, image in item.outputs.items():
        values = item.scores.get(label, {})
        accuracy = values.get("accuracy", math.nan)
        verdict = "" if math.isnan(accuracy) else ("hit" if accuracy > 50 else "miss")
        printed = [
            f"{metric_style(metric).label} {values[metric]:.{metric_style(metric).decimals}f}"
            for metric in ordered_metrics(values)
            if metric != "accuracy" and not math.isnan(values[metric])
        ]
        pictures.append(Picture(label, data_uri(image), printed, verdict))
    return Exhibit(item.triplet_id, item.prompt, item.reason, pictures)
