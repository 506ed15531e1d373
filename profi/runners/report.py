"""Reporting: the scores of an experiment's runs -> table files and one HTML page."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from profi import reports
from profi.data.hulls import hull_mask
from profi.data.images import load_image
from profi.data.manifest import read_manifest
from profi.reports.figures import outlined
from profi.reports.names import RowKey, row_labels
from profi.runners.generate import png_of
from profi.runners.spec import RunFolder, run_record
from profi.stores.generations import read_generations
from profi.stores.journal import read_lines
from profi.stores.parts import part_indices
from profi.stores.scores import metric_of, read_scores
from profi.types import Triplet, UserError

log = logging.getLogger(__name__)

GALLERY = 24
PAGE = "report.html"


@dataclass(frozen=True)
class Entry:
    """A run in a table: its row and its seed."""

    run: RunFolder
    model: str
    ablation: str
    reading: str
    seed: int

    @property
    def key(self) -> RowKey:
        """The row."""
        return RowKey(self.model, self.ablation, self.reading)


@dataclass
class _Painted:
    """What a run's store tells beside its scores."""

    pictures: dict[str, bytes]
    seconds: list[float]
    n_missing: int
    n_quarantined: int


def latest_scores(entries: Sequence[Entry], metrics: Sequence[str]) -> dict[str, str]:
    """Per metric the scores' folder name that all runs have; the latest where there are several.

    Raises:
        UserError: a run without scores of a metric, or runs scored by different models only.
    """
    chosen = {}
    for metric in metrics:
        times: dict[str, float] = {}
        common: set[str] | None = None
        for entry in entries:
            folders = [f for f in entry.run.scores.glob(f"{metric}-*") if part_indices(f)]
            names = {f.name for f in folders if metric_of(f.name) == metric}
            common = names if common is None else common & names
            for folder in folders:
                times[folder.name] = max(times.get(folder.name, 0.0), folder.stat().st_mtime)
        if not common:
            raise UserError(
                f"the runs have no {metric} by one and the same model: run stage=score first"
            )
        chosen[metric] = max(common, key=lambda name: (times[name], name))
    return chosen


def collect(entries: Sequence[Entry], folders: Mapping[str, str]) -> pd.DataFrame:
    """The long table of `profi.reports`: a row per run, triplet and metric.

    `folders` names, per metric, the folder of scores to take from every run. Triplets without
    a score stay absent, so that the statistics count them as missing.
    """
    frames = []
    for entry in entries:
        triplets = {t.triplet_id: t for t in read_manifest(entry.run.manifest)}
        frame = read_scores([entry.run.scores / name for name in folders.values()])
        frame = frame[frame["triplet_id"].isin(list(triplets))].copy()
        ids = frame["triplet_id"]
        frame["image_id"] = ids.map({name: t.image_id for name, t in triplets.items()})
        frame["category"] = ids.map({name: t.prompt for name, t in triplets.items()})
        frame["model"], frame["ablation"] = entry.model, entry.ablation
        frame["reading"], frame["run_id"] = entry.reading, entry.run.run_id
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


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
        UserError: nothing was scored.
    """
    scores = collect(entries, folders)
    if scores.empty:
        raise UserError("there are no scores to report: run stage=score first")
    folder.mkdir(parents=True, exist_ok=True)
    scores.to_parquet(folder / "scores.parquet", index=False)
    summary = reports.summarise(scores)
    table = reports.table2(summary, reports.paper_table2())
    reports.write_csv(summary, folder / "table.csv")
    (folder / "table.md").write_text(reports.render_markdown(table), encoding="utf-8")
    (folder / "table.tex").write_text(reports.render_latex(table), encoding="utf-8")

    choices = reports.choose_gallery(scores, GALLERY)
    painted = {entry: _painted(entry, choices) for entry in entries}
    told = _told(facts, entries, painted, folders)
    gallery = _gallery(choices, entries, painted, scores, data_root)
    reports.write_report(folder / PAGE, scores, gallery, told)
    for name in ("missing", "quarantined"):
        if told[name]:
            log.warning("%d samples are %s", told[name], name)
    return reports.render_rich(table, str(facts.get("experiment", "")))


def _painted(entry: Entry, choices: Sequence[reports.GalleryChoice]) -> _Painted:
    """One pass over a run's images; only the chosen ones are kept."""
    wanted = {choice.triplet_id for choice in choices if choice.seed == entry.seed}
    left = {triplet.triplet_id for triplet in read_manifest(entry.run.manifest)}
    result = _Painted({}, [], 0, 0)
    for item in read_generations(entry.run.generations):
        left.discard(item.triplet_id)
        result.seconds.append(item.seconds)
        if item.triplet_id in wanted:
            result.pictures[item.triplet_id] = item.image
    failed = {line["triplet_id"] for line in read_lines(entry.run.quarantine)}
    result.n_missing, result.n_quarantined = len(left), len(left & failed)
    return result


def _told(
    facts: Mapping[str, Any],
    entries: Sequence[Entry],
    painted: Mapping[Entry, _Painted],
    folders: Mapping[str, str],
) -> dict[str, Any]:
    """The facts at the page's head."""
    labels = row_labels(entry.key for entry in entries)
    told = dict(facts)
    told["quarantined"] = sum(item.n_quarantined for item in painted.values())
    told["missing"] = sum(item.n_missing for item in painted.values())
    pixels = [run_record(entry.run)["pixels"] for entry in entries]
    told["weights"] = ", ".join(sorted({item["backbone"]["weights"] for item in pixels}))
    told["manifest"] = ", ".join(sorted({item["manifest"] for item in pixels}))
    told["scored by"] = ", ".join(folders.values())
    for key, label in labels.items():
        mine = [entry for entry in entries if entry.key == key]
        seconds = [second for entry in mine for second in painted[entry].seconds]
        speed = f"{sum(seconds) / len(seconds):.2f} s per image" if seconds else "nothing painted"
        told[f"runs: {label}"] = f"{', '.join(entry.run.run_id for entry in mine)} ({speed})"
    return told


def _gallery(
    choices: Sequence[reports.GalleryChoice],
    entries: Sequence[Entry],
    painted: Mapping[Entry, _Painted],
    scores: pd.DataFrame,
    data_root: Path,
) -> list[reports.GalleryItem]:
    """The chosen triplets' pictures; a triplet whose image is not at hand is left out."""
    labels = row_labels(entry.key for entry in entries)
    triplets: dict[str, Triplet] = {}
    for entry in entries:
        triplets |= {t.triplet_id: t for t in read_manifest(entry.run.manifest)}
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
            for entry in entries
            if entry.seed == choice.seed and choice.triplet_id in painted[entry].pictures
        }
        outputs = {
            label: painted[shown[label]].pictures[choice.triplet_id]
            for label in labels.values()
            if label in shown
        }
        values = {label: _values(scores, shown[label], choice.triplet_id) for label in outputs}
        items.append(
            reports.GalleryItem(
                choice.triplet_id,
                triplet.prompt,
                png_of(image),
                png_of(outlined(image, hull_mask(triplet))),
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
