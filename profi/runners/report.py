"""Reporting: the scores of an experiment's runs -> table files and one HTML page."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from profi import reports
from profi.atomic import write_text
from profi.data.images import load_image
from profi.data.masks import triplet_mask
from profi.reports.figures import outlined
from profi.reports.names import row_labels
from profi.runners.generate import png_of
from profi.runners.provenance import APART, SEPARATOR, merged
from profi.runners.spec import run_record
from profi.runners.survey import (
    Entry,
    Survey,
    check_comparable,
    collect,
    expected,
    pictures,
    survey,
)
from profi.types import Triplet, UserError

log = logging.getLogger(__name__)

GALLERY = 24
PAGE = "report.html"
NOT_PAINTED = "images not painted"


def report(
    folder: Path,
    entries: Sequence[Entry],
    folders: Mapping[str, str],
    data_root: Path,
    facts: Mapping[str, Any],
) -> Table:
    """Write `report.html`, `table.{csv,md,tex}` and `scores.parquet` into `folder`.

    Returns:
        The table for a terminal.

    Raises:
        UserError: nothing was scored; runs that cannot share a table.
    """
    check_comparable(entries)
    surveys = {entry: survey(entry) for entry in entries}
    scores = collect(surveys, folders)
    wanted = expected(surveys)
    if scores.empty:
        raise UserError("there are no scores to report: run stage=score first")
    folder.mkdir(parents=True, exist_ok=True)
    scores.to_parquet(folder / "scores.parquet", index=False)
    summary = reports.summarise(scores, wanted)
    table = reports.table2(summary, reports.paper_table2())
    reports.write_csv(summary, folder / "table.csv")
    write_text(folder / "table.md", reports.render_markdown(table))
    write_text(folder / "table.tex", reports.render_latex(table))

    choices = reports.choose_gallery(scores, GALLERY)
    told = _told(facts, surveys, folders)
    told |= reports.agreement_facts(scores) | reports.preference_facts(scores)
    gallery = _gallery(choices, surveys, scores, data_root)
    reports.write_report(folder / PAGE, scores, gallery, told, wanted)
    if told[NOT_PAINTED]:
        log.warning(
            "%d images are not painted, %d of them quarantined",
            told[NOT_PAINTED],
            told["quarantined"],
        )
    # The paper's own numbers stand in the files: beside ours they outgrow a terminal.
    return reports.render_rich(reports.table2(summary), str(facts.get("experiment", "")))


def _told(
    facts: Mapping[str, Any], surveys: Mapping[Entry, Survey], folders: Mapping[str, str]
) -> dict[str, Any]:
    """The facts at the page's head."""
    told = dict(facts)
    told["quarantined"] = sum(item.n_quarantined for item in surveys.values())
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
    apart = told.pop(APART, None)
    for name in ("commit", "versions", "device"):
        if SEPARATOR in told.get(name, ""):
            log.warning("these images were painted by more than one %s: %s", name, told[name])
    if apart is not None:
        told["painted " + APART] = str(len(apart.split(SEPARATOR)))
    return told


def _gallery(
    choices: Sequence[reports.GalleryChoice],
    surveys: Mapping[Entry, Survey],
    scores: pd.DataFrame,
    data_root: Path,
) -> list[reports.GalleryItem]:
    """The chosen triplets' pictures; a triplet whose image is not at hand is left out."""
    labels = row_labels(entry.key for entry in surveys)
    triplets: dict[str, Triplet] = {}
    painted: dict[Entry, dict[str, bytes]] = {}
    for entry, surveyed in surveys.items():
        triplets |= surveyed.triplets
        wanted = {choice.triplet_id for choice in choices if choice.seed == entry.seed}
        painted[entry] = pictures(entry, surveyed, wanted)
    items = []
    for choice in choices:
        triplet = triplets[choice.triplet_id]
        try:
            image = load_image(data_root, triplet)
        except UserError as error:
            log.warning("left out of the gallery: %s", error)
            continue
        shown = {
            labels[entry.key]: entry
            for entry in surveys
            if entry.seed == choice.seed and choice.triplet_id in painted[entry]
        }
        outputs = {
            label: painted[shown[label]][choice.triplet_id]
            for label in labels.values()
            if label in shown
        }
        values = {label: _values(scores, shown[label], choice.triplet_id) for label in outputs}
        items.append(
            reports.GalleryItem(
                choice.triplet_id,
                triplet.prompt,
                png_of(image),
                png_of(outlined(image, triplet_mask(triplet))),
                outputs,
                values,
                choice.reason,
            )
        )
    return items


def _values(scores: pd.DataFrame, entry: Entry, triplet_id: str) -> dict[str, float]:
    """One image's scores by metric."""
    mine = scores[
        (scores["run_id"] == entry.run.run_id)
        & (scores["ablation"] == entry.ablation)
        & (scores["reading"] == entry.reading)
        & (scores["triplet_id"] == triplet_id)
    ]
    return dict(zip(mine["metric"].astype(str), mine["value"].astype(float), strict=True))
