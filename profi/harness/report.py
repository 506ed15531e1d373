"""Reporting: the scores of an experiment's runs -> table files and an HTML page with a gallery."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from profi import reports
from profi.harness import missing
from profi.harness.provenance import APART, APART_SIZES, SEPARATOR, merged
from profi.harness.report_pictures import gallery_items, standing_failures
from profi.harness.run_folder import run_record
from profi.harness.run_status import (
    Absent,
    Entry,
    Survey,
    check_comparable,
    collect,
    expected,
    survey,
)
from profi.reports.gallery import FOLDER
from profi.reports.names import RowKey, metric_style, row_labels
from profi.reports.tables import measured
from profi.types import UserError

log = logging.getLogger(__name__)

HIGHLIGHTS = 12
PAGE = "report.html"
NOT_PAINTED = "images not painted"


@dataclass(frozen=True)
class Shown:
    """A report for a terminal: its tables, and lines of what is missing."""

    tables: Sequence[reports.Table]
    lines: Sequence[str]

    def print(self, console: Console) -> None:
        """The lines as they are: a command that is cut or wrapped cannot be given again."""
        for table in self.tables:
            console.print(reports.render_rich(table))
        for line in self.lines:
            console.print(line, soft_wrap=True, markup=False, highlight=False)


@dataclass(frozen=True)
class Request:
    """What a report is made of.

    Attributes:
        entries: the runs that there are, in order.
        absent: those of which there is nothing.
        folders: per metric, the scores' folder in every run (`survey.latest_scores`).
        data_root: the images' folder.
        facts: for the page's head.
        beside_paper: whether the scores are on the paper's scales.
        gallery: how many triplets can be browsed; None for all.
        overrides: of the command, to tell narrower ones.
        models: a model's id to its option, see `missing.tell`.
    """

    entries: Sequence[Entry]
    absent: Sequence[Absent]
    folders: Mapping[str, str]
    data_root: Path
    facts: Mapping[str, Any]
    beside_paper: bool
    gallery: int | None
    overrides: Sequence[str]
    models: Mapping[str, str]

    @property
    def labels(self) -> dict[RowKey, str]:
        """The printed names of all rows, in order."""
        keys = [entry.key for entry in self.entries] + [item.key for item in self.absent]
        return row_labels(keys)


def report(folder: Path, request: Request) -> Shown:
    """Write the report into `folder`.

    `report.html` with `gallery/`, `table.{csv,md,tex}`, `differences.csv`, `scores.parquet`.

    Raises:
        UserError: nothing was scored; runs that cannot share a table.
    """
    check_comparable(request.entries)
    surveys = {entry: survey(entry) for entry in request.entries}
    scores = collect(surveys, request.folders)
    if scores.empty:
        raise UserError("there are no scores to report: run stage=score first")
    folder.mkdir(parents=True, exist_ok=True)
    scores.to_parquet(folder / "scores.parquet", index=False)
    summary = reports.summarise(scores, expected(surveys, request.absent))
    tables = reports.write_tables(folder, scores, summary, request.labels, request.beside_paper)

    labels = request.labels
    gaps = missing.gaps(surveys, request.absent, scores, list(request.folders))
    told = missing.tell(gaps, labels, request.overrides, request.models)
    failures = standing_failures(surveys, scores, labels)
    highlights, n_browsable = _pictures(folder, request, surveys, scores, failures)
    page = reports.Page(
        scores,
        tables,
        _facts(request.facts, surveys, request.folders),
        highlights,
        n_browsable,
        failures,
        told,
        int(summary["n_missing"].sum()),
        reports.preference_facts(scores) | reports.agreement_facts(scores),
    )
    reports.write_report(folder / PAGE, page)
    return Shown(tables, _told(told, len(failures)))


def _pictures(
    folder: Path,
    request: Request,
    surveys: Mapping[Entry, Survey],
    scores: pd.DataFrame,
    failures: Sequence[reports.Failure],
) -> tuple[list[reports.GalleryItem], int]:
    """The highlights for the page, and how many triplets the gallery beside it got."""
    highlights = {item.triplet_id: item for item in reports.choose_gallery(scores, HIGHLIGHTS)}
    (seed,) = {item.seed for item in highlights.values()}
    wanted = {name: item.reason for name, item in highlights.items()}
    if request.gallery != 0:
        names = {name for surveyed in surveys.values() for name in surveyed.triplets}
        n_wanted = len(names) if request.gallery is None else request.gallery
        more = [item.triplet_id for item in reports.choose_gallery(scores, n_wanted)]
        # Quarantined ones may have no score to be chosen by.
        more += [failure.triplet_id for failure in failures]
        more += names if request.gallery is None else []
        wanted |= {name: "" for name in more if name not in wanted}
    items = gallery_items(wanted, seed, surveys, scores, failures, request.data_root)
    shown: dict[str, reports.GalleryItem] = {}

    def kept() -> Iterator[reports.GalleryItem]:
        for item in items:
            if item.triplet_id in highlights:
                shown[item.triplet_id] = item
            yield item

    n_browsable = 0
    if request.gallery == 0:
        for _ in kept():
            pass
    else:
        rows = row_labels(entry.key for entry in surveys)
        n_browsable = reports.write_gallery(folder / FOLDER, kept(), rows, request.folders)
    return [shown[name] for name in highlights if name in shown], n_browsable


def row_line(entries: Sequence[Entry], folders: Mapping[str, str]) -> str:
    """A row's scores in one line, as soon as its runs are scored: `base: CLIP score 25.6, ...`."""
    surveys = {entry: survey(entry) for entry in entries}
    scores = collect(surveys, folders)
    key = entries[0].key
    label = f"{key.model}, {row_labels([key])[key]}"
    if scores.empty:
        return f"{label}: no scores"
    lines = reports.summarise(scores, expected(surveys)).set_index("metric")
    cells = [f"{metric_style(m).label} {measured(lines.loc[m], m).text}" for m in folders]
    return f"{label}: {', '.join(cells)} ({len(entries)} seed(s))"


def _told(told: reports.Missing, n_failures: int) -> list[str]:
    """What is missing, for a terminal."""
    lines = []
    if told.lines:
        lines += ["missing:", *(f"  {line}" for line in told.lines)]
        lines += ["to make just that:", *(f"  {line}" for line in told.commands)]
    if n_failures:
        lines.append(f"quarantined samples: {n_failures}; the page lists them")
    return lines


def _facts(
    facts: Mapping[str, Any], surveys: Mapping[Entry, Survey], folders: Mapping[str, str]
) -> dict[str, Any]:
    """The facts at the page's head."""
    told = dict(facts)
    told[NOT_PAINTED] = sum(item.n_missing for item in surveys.values())
    pixels = [run_record(entry.run)["pixels"] for entry in surveys]
    told["weights"] = ", ".join(sorted({item["backbone"]["weights"] for item in pixels}))
    told["manifest"] = ", ".join(sorted({item["manifest"] for item in pixels}))
    told |= _provenance(surveys)
    told["scored by"] = ", ".join(folders.values())
    for key, label in row_labels(entry.key for entry in surveys).items():
        mine = [entry for entry in surveys if entry.key == key]
        cost = _cost([surveys[entry] for entry in mine])
        told[f"runs: {label}"] = f"{', '.join(entry.run.run_id for entry in mine)} ({cost})"
    return told


def _cost(surveys: Sequence[Survey]) -> str:
    """Mean seconds per image and the highest peak of memory, where the device reports one."""
    seconds = [second for item in surveys for second in item.seconds]
    if not seconds:
        return "nothing painted"
    told = f"{sum(seconds) / len(seconds):.2f} s per image"
    peaks = [peak for item in surveys for peak in item.peak_bytes if not math.isnan(peak)]
    return f"{told}, peak memory {max(peaks) / 2**30:.2f} GiB" if peaks else told


def _provenance(surveys: Mapping[Entry, Survey]) -> dict[str, str]:
    """By what the images were painted; a mix is allowed, shown and warned of."""
    # Read from the parts: a run may have been gone on with elsewhere or with other code.
    told = merged(facts for item in surveys.values() for facts in item.facts)
    apart, sizes = told.pop(APART, None), told.pop(APART_SIZES, "")
    for name in ("commit", "versions", "device"):
        if SEPARATOR in told.get(name, ""):
            log.warning("these images were painted by more than one %s: %s", name, told[name])
    if apart is not None:
        count = len(apart.split(SEPARATOR))
        told["painted " + APART] = f"{count} (in batches of {sizes.replace(SEPARATOR, ', ')})"
    return told
