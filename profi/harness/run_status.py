"""The status of a table's runs: images, scores, gaps, and whether the runs are comparable."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from profi.data.manifest import read_manifest
from profi.harness.run_folder import RunFolder, run_record
from profi.reports import Expected
from profi.reports.names import RowKey
from profi.store.generations import pictures_digest, read_generations_part
from profi.store.parts import part_facts, part_indices, read_lines
from profi.store.scores import IDENTITY, metric_of, read_scores, read_scores_part, scores_frame
from profi.types import Triplet, UserError

_OF_THE_DATA = ("manifest", "images")


@dataclass(frozen=True)
class Entry:
    """An existing run in a table: its row and its seed."""

    run: RunFolder
    model: str
    ablation: str
    reading: str
    seed: int

    @property
    def key(self) -> RowKey:
        """The run's row."""
        return RowKey(self.model, self.ablation, self.reading)


@dataclass(frozen=True)
class Absent:
    """A run of a table without any painted image."""

    key: RowKey
    seed: int


@dataclass(frozen=True)
class RunStatus:
    """A run's triplets and painted images, to check its scores against.

    `sources` has the digest of the pictures per part, `part_of` the part of each painted triplet,
    `seconds` and `peak_bytes` (NaN: not reported) a value per picture, `facts` the recorded facts
    of each part, `failed` the quarantine's last line per triplet and stage.
    """

    triplets: Mapping[str, Triplet]
    sources: Mapping[int, str]
    part_of: Mapping[str, int]
    seconds: tuple[float, ...]
    peak_bytes: tuple[float, ...]
    facts: tuple[Mapping[str, str], ...]
    failed: tuple[Mapping[str, str], ...]

    @property
    def n_missing(self) -> int:
        """How many triplets are not painted."""
        return len(self.triplets.keys() - self.part_of.keys())


def read_status(entry: Entry) -> RunStatus:
    """One pass over a run's images, one part in memory at a time."""
    triplets = {t.triplet_id: t for t in read_manifest(entry.run.manifest)}
    sources: dict[int, str] = {}
    part_of: dict[str, int] = {}
    seconds: list[float] = []
    peak_bytes: list[float] = []
    facts = []
    for index in part_indices(entry.run.generations):
        generations = read_generations_part(entry.run.generations, index)
        if not generations:
            continue
        facts.append(part_facts(entry.run.generations, index))
        sources[index] = pictures_digest(generations)
        part_of |= {item.triplet_id: index for item in generations}
        seconds += [item.seconds for item in generations]
        peak_bytes += [item.peak_memory_bytes for item in generations]
    lines = read_lines(entry.run.quarantine)
    failed = {(line["triplet_id"], line["stage"]): line for line in lines}
    return RunStatus(
        triplets,
        sources,
        part_of,
        tuple(seconds),
        tuple(peak_bytes),
        tuple(facts),
        tuple(failed.values()),
    )


def pictures(entry: Entry, status: RunStatus, names: set[str]) -> dict[str, bytes]:
    """The images of the named triplets; reads only the parts that have one."""
    found = {}
    for index in sorted({status.part_of[name] for name in names & status.part_of.keys()}):
        for item in read_generations_part(entry.run.generations, index) or []:
            if item.triplet_id in names:
                found[item.triplet_id] = item.image
    return found


def expected(statuses: Mapping[Entry, RunStatus], absent: Sequence[Absent] = ()) -> Expected:
    """The scores that every row of the table should have: all triplets, all seeds."""
    return Expected(
        frozenset(name for status in statuses.values() for name in status.triplets),
        frozenset([*(entry.seed for entry in statuses), *(item.seed for item in absent)]),
        frozenset([*(entry.key for entry in statuses), *(item.key for item in absent)]),
    )


def check_comparable(entries: Sequence[Entry]) -> None:
    """Refuse a table of runs that cannot be compared.

    Runs of one row may differ only in the seed, rows of one model also in the method. Rows of
    different models need the same triplets and images. The check reads the runs' records: settings
    do not show that weights, images or code have changed.

    Raises:
        UserError: the message names two runs, what differs and the remedy.
    """
    records = {entry: _flat(run_record(entry.run)["pixels"]) for entry in entries}
    first_of_row: dict[RowKey, Entry] = {}
    first_of_model: dict[str, Entry] = {}
    for entry in entries:
        first = first_of_row.setdefault(entry.key, entry)
        names = records[first].keys() | records[entry].keys()
        _check_pair(first, entry, records, _without(names, "seed"))
        of_model = first_of_model.setdefault(entry.model, entry)
        names = records[of_model].keys() | records[entry].keys()
        _check_pair(of_model, entry, records, _without(names, "seed", "method"))
        _check_pair(entries[0], entry, records, _OF_THE_DATA)


def _without(names: Iterable[str], *free: str) -> list[str]:
    return [name for name in names if name.partition(".")[0] not in free]


def _check_pair(
    one: Entry, two: Entry, records: Mapping[Entry, Mapping[str, Any]], names: Iterable[str]
) -> None:
    a, b = records[one], records[two]
    differing = sorted(name for name in names if a.get(name) != b.get(name))
    if differing:
        raise UserError(
            f"runs {one.run.run_id} ({one.ablation}, seed {one.seed}) and {two.run.run_id} "
            f"({two.ablation}, seed {two.seed}) differ in {', '.join(differing)} and cannot share "
            "a table: run the same command with stage=all to repaint the outdated ones"
        )


def _flat(pixels: Mapping[str, Any]) -> dict[str, Any]:
    """Nested names joined by a dot, one level deep: `backbone.weights`."""
    flat: dict[str, Any] = {}
    for name, value in pixels.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    return flat


def latest_scores(
    entries: Sequence[Entry],
    metrics: Sequence[str],
    required: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, str]:
    """Per metric, the name of the scores' folder that most runs have; the latest of several.

    Runs without this folder count as not scored: a column never mixes scores of different models.

    Args:
        entries: the runs.
        metrics: their names.
        required: per metric, values that its identity must have, such as the accuracy's
            threshold; a dot in a name separates two levels.

    Raises:
        UserError: no run has such scores of a metric.
    """
    chosen = {}
    for metric in metrics:
        values = (required or {}).get(metric, {})
        times: dict[str, float] = {}
        counts: Counter[str] = Counter()
        for entry in entries:
            for folder in entry.run.scores.glob(f"{metric}-*"):
                name = folder.name
                if metric_of(name) != metric or not part_indices(folder):
                    continue
                if _has_identity(folder, values):
                    counts[name] += 1
                    times[name] = max(times.get(name, 0.0), folder.stat().st_mtime)
        if not counts:
            asked = [f"{name}={value}" for name, value in values.items() if value is not None]
            how = f" with {', '.join(asked)}" if asked else ""
            raise UserError(f"no run has {metric}{how}: run stage=score first")
        chosen[metric] = max(counts, key=lambda name: (counts[name], times[name], name))
    return chosen


def _has_identity(folder: Path, values: Mapping[str, Any]) -> bool:
    """Whether the recorded identity of a scores' folder has these values."""
    if not values:
        return True
    try:
        identity = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    flat = _flat(identity)
    return all(flat.get(name) == value for name, value in values.items())


def collect(statuses: Mapping[Entry, RunStatus], folders: Mapping[str, str]) -> pd.DataFrame:
    """The long table of `profi.reports`: one row per run, triplet and metric.

    `folders` names, per metric, the folder of scores to read in every run. Stale scores (of
    pictures that were painted again) and missing scores have no row; `expected` serves to count
    them.
    """
    frames = []
    for entry, status in statuses.items():
        scores = [
            item
            for name in folders.values()
            for index, source in status.sources.items()
            for item in read_scores_part(entry.run.scores / name, index, source) or []
            if item.triplet_id in status.triplets
        ]
        frames.append(_labelled(scores_frame(scores), entry, status.triplets))
    return _joined(frames)


def written_scores(
    entries: Sequence[Entry], folders: Mapping[str, str]
) -> tuple[pd.DataFrame, Expected]:
    """The scores that a command has just written, and what is expected of its runs.

    Like `collect`, without reading the pictures again to see whether scores are stale.
    """
    frames: list[pd.DataFrame] = []
    triplets: set[str] = set()
    for entry in entries:
        own = {triplet.triplet_id: triplet for triplet in read_manifest(entry.run.manifest)}
        triplets |= own.keys()
        frame = read_scores(entry.run.scores / name for name in folders.values())
        frames.append(_labelled(frame[frame["triplet_id"].isin(own)], entry, own))
    seeds, keys = (frozenset(getattr(e, name) for e in entries) for name in ("seed", "key"))
    return _joined(frames), Expected(frozenset(triplets), seeds, keys)


def _labelled(scores: pd.DataFrame, entry: Entry, triplets: Mapping[str, Triplet]) -> pd.DataFrame:
    """A run's scores with the columns of the long table."""
    names = scores["triplet_id"]
    return scores.assign(
        image_id=[triplets[name].image_id for name in names],
        category=[triplets[name].prompt for name in names],
        model=entry.model,
        ablation=entry.ablation,
        reading=entry.reading,
        run_id=entry.run.run_id,
    )


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([f for f in frames if len(f)] or frames[:1], ignore_index=True)
