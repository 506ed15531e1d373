"""The stage report: writes tables and an HTML page with a gallery from an experiment's scores."""

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
from profi.atomic import whole_file
from profi.harness.provenance import APART, APART_SIZES, SEPARATOR, merged
from profi.harness.report_pictures import gallery_items, standing_failures
from profi.harness.run_folder import run_record
from profi.harness.run_list import gaps as gaps_of
from profi.harness.run_list import missing_lines
from profi.harness.run_status import (
    Absent,
    Entry,
    RunStatus,
    check_comparable,
    collect,
    expected,
    read_status,
    written_scores,
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
    """A report for a terminal: its tables, and lines about what is missing."""

    tables: Sequence[reports.Table]
    lines: Sequence[str]

    def print(self, console: Console) -> None:
        """Print tables and lines; lines are not wrapped, so that commands can be copied."""
        for table in self.tables:
            console.print(reports.render_rich(table))
        for line in self.lines:
            console.print(line, soft_wrap=True, markup=False, highlight=False)


@dataclass(frozen=True)
class Request:
    """What a report is made of.

    Attributes:
        entries: the existing runs, in order.
        absent: the runs that do not exist.
        folders: per metric, the name of the scores' folder (`run_status.latest_scores`).
        data_root: the images' folder.
        facts: for the page's head.
        with_paper: whether the scores can be compared with the paper's numbers.
        gallery: how many triplets the gallery has; None for all.
        gallery_seeds: how many seeds it has; None for all.
        overrides: of the command; the commands for missing work repeat them.
        models, program: a model's id to its option, and how the command was called; see
            `missing_lines`.
    """

    entries: Sequence[Entry]
    absent: Sequence[Absent]
    folders: Mapping[str, str]
    data_root: Path
    facts: Mapping[str, Any]
    with_paper: bool
    gallery: int | None
    gallery_seeds: int | None
    overrides: Sequence[str]
    models: Mapping[str, str]
    program: Sequence[str] = ("python", "run.py")

    @property
    def labels(self) -> dict[RowKey, str]:
        """The printed names of all rows, in order."""
        keys = [entry.key for entry in self.entries] + [item.key for item in self.absent]
        return row_labels(keys)


def report(folder: Path, request: Request) -> Shown:
    """Write the report into `folder`.

    `report.html` with `gallery/`, `table.{csv,md,tex}`, `differences.csv`, `scores.parquet`.

    Raises:
        UserError: there are no scores, or the runs cannot share a table.
    """
    check_comparable(request.entries)
    statuses = {entry: read_status(entry) for entry in request.entries}
    scores = collect(statuses, request.folders)
    if scores.empty:
        raise UserError("there are no scores to report: run stage=score first")
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / "scores.parquet") as file:
        scores.to_parquet(file, index=False)
    summary = reports.summarise(scores, expected(statuses, request.absent))
    tables = reports.write_tables(folder, scores, summary, request.labels, request.with_paper)

    labels = request.labels
    gaps = gaps_of(statuses, request.absent, scores, list(request.folders))
    lacking = missing_lines(gaps, labels, request.overrides, request.models, request.program)
    failures = standing_failures(statuses, scores, labels)
    highlights, n_browsable = _pictures(folder, request, statuses, scores, failures)
    page = reports.Page(
        scores,
        tables,
        _facts(request.facts, statuses, request.folders),
        highlights,
        n_browsable,
        failures,
        lacking,
        int(summary["n_missing"].sum()),
        reports.preference_facts(scores) | reports.agreement_facts(scores),
    )
    reports.write_report(folder / PAGE, page)
    return Shown(tables, missing_text(lacking, len(failures)))


def _pictures(
    folder: Path,
    request: Request,
    statuses: Mapping[Entry, RunStatus],
    scores: pd.DataFrame,
    failures: Sequence[reports.Failure],
) -> tuple[list[reports.GalleryItem], int]:
    """Write the gallery; returns the page's highlights and the gallery's number of triplets."""
    highlights = {item.triplet_id: item for item in reports.choose_gallery(scores, HIGHLIGHTS)}
    (seed,) = {item.seed for item in highlights.values()}
    reasons = {name: item.reason for name, item in highlights.items()}
    if request.gallery != 0:
        names = {name for status in statuses.values() for name in status.triplets}
        n_chosen = len(names) if request.gallery is None else request.gallery
        more = [item.triplet_id for item in reports.choose_gallery(scores, n_chosen)]
        # `choose_gallery` does not see quarantined triplets without scores.
        more += [failure.triplet_id for failure in failures]
        more += names if request.gallery is None else []
        reasons |= {name: "" for name in more if name not in reasons}
    # The page alone shows one seed; the gallery all of them.
    others: list[int] = []
    if request.gallery != 0:
        every = {entry.seed for entry in statuses} - {seed}
        others = sorted(every)[: (request.gallery_seeds or len(every) + 1) - 1]
    items = gallery_items(reasons, seed, statuses, scores, failures, request.data_root, others)
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
        rows = row_labels(entry.key for entry in statuses)
        n_browsable = reports.write_gallery(
            folder / FOLDER, kept(), rows, request.folders, seeds=(seed, *others)
        )
    return [shown[name] for name in highlights if name in shown], n_browsable


def row_line(entries: Sequence[Entry], folders: Mapping[str, str]) -> str:
    """A row's scores in one line: `<model>, <row>: CLIP score 25.61, ... (1 seed(s))`."""
    scores, complete = written_scores(entries, folders)
    key = entries[0].key
    label = f"{key.model}, {row_labels([key])[key]}"
    if scores.empty:
        return f"{label}: no scores"
    lines = reports.summarise(scores, complete).set_index("metric")
    cells = [f"{metric_style(m).label} {measured(lines.loc[m], m).text}" for m in folders]
    return f"{label}: {', '.join(cells)} ({len(entries)} seed(s))"


def missing_text(missing: reports.Missing, n_failures: int = 0) -> list[str]:
    """Lines about missing work and failures, for a terminal."""
    lines = []
    if missing.lines:
        lines += ["missing:", *(f"  {line}" for line in missing.lines)]
        lines += ["commands for it:", *(f"  {line}" for line in missing.commands)]
    if n_failures:
        lines.append(f"quarantined samples: {n_failures} (listed in {PAGE})")
    return lines


def _facts(
    facts: Mapping[str, Any], statuses: Mapping[Entry, RunStatus], folders: Mapping[str, str]
) -> dict[str, Any]:
    """The facts at the page's head."""
    result = dict(facts)
    result[NOT_PAINTED] = sum(item.n_missing for item in statuses.values())
    pixels = [run_record(entry.run)["pixels"] for entry in statuses]
    result["weights"] = ", ".join(sorted({item["backbone"]["weights"] for item in pixels}))
    result["manifest"] = ", ".join(sorted({item["manifest"] for item in pixels}))
    result |= _provenance(statuses)
    result["scored by"] = ", ".join(folders.values())
    for key, label in row_labels(entry.key for entry in statuses).items():
        mine = [entry for entry in statuses if entry.key == key]
        cost = _cost([statuses[entry] for entry in mine])
        result[f"runs: {label}"] = f"{', '.join(entry.run.run_id for entry in mine)} ({cost})"
    return result


def _cost(statuses: Sequence[RunStatus]) -> str:
    """Mean seconds per image, and the peak memory if the device reports one."""
    seconds = [second for item in statuses for second in item.seconds]
    if not seconds:
        return "nothing painted"
    text = f"{sum(seconds) / len(seconds):.2f} s per image"
    peaks = [peak for item in statuses for peak in item.peak_bytes if not math.isnan(peak)]
    return f"{text}, peak memory {max(peaks) / 2**30:.2f} GiB" if peaks else text


def _provenance(statuses: Mapping[Entry, RunStatus]) -> dict[str, str]:
    """What the images were painted with; warns if they differ in commit, versions or device."""
    # From the parts: another machine or other code may have resumed a run.
    result = merged(facts for item in statuses.values() for facts in item.facts)
    apart, sizes = result.pop(APART, None), result.pop(APART_SIZES, "")
    for name in ("commit", "versions", "device"):
        if SEPARATOR in result.get(name, ""):
            log.warning("these images were painted by more than one %s: %s", name, result[name])
    if apart is not None:
        count = len(apart.split(SEPARATOR))
        result["painted " + APART] = f"{count} (in batches of {sizes.replace(SEPARATOR, ', ')})"
    return result
