"""The paintings that a figure chooses from: read from the stores, painted where they are absent."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from rich.console import Console

from profi.data.manifest import read_manifest
from profi.data.masks import triplet_mask
from profi.figures.drawing import Pick
from profi.harness.build_metrics import required_identity
from profi.harness.experiment import absent_text, paint_and_score
from profi.harness.run_status import (
    Entry,
    RunStatus,
    check_comparable,
    collect,
    latest_scores,
    pictures,
    read_status,
)
from profi.harness.runs import Command, all_runs
from profi.harness.score import decode, originals_of, painted_mask
from profi.reports.names import RowKey, ordered_metrics
from profi.settings import Config
from profi.store.generations import painted_count
from profi.store.scores import read_scores
from profi.types import Triplet, UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Pool:
    """Rows of a table that were painted from the same triplets and seeds, with their scores."""

    command: Command
    statuses: Mapping[Entry, RunStatus]
    scores: pd.DataFrame

    @property
    def rows(self) -> list[RowKey]:
        """The rows in the order of the command."""
        return list(dict.fromkeys(entry.key for entry in self.statuses))

    @cached_property
    def triplets(self) -> dict[str, Triplet]:
        """All triplets by id, in the manifest's order."""
        return {name: t for status in self.statuses.values() for name, t in status.triplets.items()}

    @cached_property
    def picks(self) -> list[Pick]:
        """The (triplet, seed) that every row has painted; seeds outermost."""
        seeds = sorted({entry.seed for entry in self.statuses})
        return [
            Pick(name, seed)
            for seed in seeds
            for name in self.triplets
            if all(name in s.part_of for e, s in self.statuses.items() if e.seed == seed)
        ]

    def prompt(self, pick: Pick) -> str:
        """The prompt of a pick."""
        return self.triplets[pick.triplet_id].prompt

    def pictures(self, row: RowKey, picks: Iterable[Pick]) -> dict[Pick, np.ndarray]:
        """The paintings of a row, uint8 [H, W, 3]."""
        picks = list(picks)
        found: dict[Pick, np.ndarray] = {}
        for entry, status in self.statuses.items():
            if entry.key == row:
                names = {pick.triplet_id for pick in picks if pick.seed == entry.seed}
                stored = pictures(entry, status, names)
                found |= {Pick(name, entry.seed): decode(png) for name, png in stored.items()}
        return {pick: found[pick] for pick in picks}

    @cached_property
    def _values(self) -> dict[tuple[str, RowKey, Pick], float]:
        columns = ["metric", "model", "ablation", "reading", "triplet_id", "seed", "value"]
        return {
            (str(metric), RowKey(model, ablation, reading), Pick(str(name), int(seed))): float(
                value
            )
            for metric, model, ablation, reading, name, seed, value in self.scores[
                columns
            ].itertuples(index=False)
        }

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics, in the paper's order."""
        return ordered_metrics(str(name) for name in self.scores["metric"].unique())

    def score(self, metric: str, row: RowKey, pick: Pick) -> float:
        """A score; NaN if there is none."""
        return self._values.get((metric, row, pick), math.nan)

    def mean(self, metric: str, row: RowKey) -> float:
        """A row's mean over all picks; NaN if one has no score."""
        return float(np.mean([self.score(metric, row, pick) for pick in self.picks]))

    def found(self, row: RowKey, pick: Pick) -> bool:
        """Whether the detector finds the label in the painting (the metric accuracy).

        A label that the detector does not know is not found, see `unknown`. UserError if the
        settings do not score the accuracy.
        """
        if "accuracy" not in self.metrics:
            raise UserError(
                "there is no score accuracy, by which this figure chooses: add accuracy to "
                "metric.metrics"
            )
        return self.score("accuracy", row, pick) == 100.0

    @property
    def unknown(self) -> int:
        """The number of picks without an accuracy, such as prompts that the detector lacks."""
        (row, *_) = self.rows
        return sum(math.isnan(self.score("accuracy", row, pick)) for pick in self.picks)

    def given(self, pick: Pick) -> np.ndarray:
        """The image before painting at the painted size, uint8 [H, W, 3]."""
        run = next(run for run in all_runs(self.command) if run.seed == pick.seed)
        return originals_of(run.plan)(self.triplets[pick.triplet_id])

    def mask(self, pick: Pick, size: Sequence[int]) -> np.ndarray:
        """The mask for a painting of `size` (height, width), bool."""
        mask = triplet_mask(self.triplets[pick.triplet_id])
        return painted_mask(mask, size, self.command.config.evaluation)


def read_or_paint(command: Command, configs: Sequence[Config], console: Console) -> Pool:
    """The rows of several settings of one command.

    Runs that are complete are read as they are; no model is loaded for them. What is missing of the
    others is painted and scored. A model that cannot be loaded is logged and its rows are left out.

    Raises:
        UserError: nothing can be painted, or the rows do not have the same triplets and images.
    """
    statuses: dict[Entry, RunStatus] = {}
    frames = []
    for config in configs:
        one = replace(command, config=replace(config, stage="all"))
        metric = config.metric
        required = required_identity(metric, config.evaluation)
        entries = _complete(one) or _worked(one, console)
        folders = latest_scores(entries, metric.metrics, required)
        mine = {entry: read_status(entry) for entry in entries}
        frames.append(collect(mine, folders))
        statuses |= mine
    manifests = {frozenset(status.triplets) for status in statuses.values()}
    if len(manifests) > 1:
        raise UserError("the runs of this figure have other triplets: paint them again")
    of_config = replace(command, config=configs[0])
    return Pool(of_config, statuses, pd.concat(frames, ignore_index=True))


def _complete(command: Command) -> list[Entry]:
    """All runs of a command, if all are painted and scored; else nothing."""
    config = command.config
    required = required_identity(config.metric, config.evaluation)
    entries = []
    for run in all_runs(command):
        entry = run.find()
        if entry is None:
            return []
        count = painted_count(entry.run.generations)
        try:
            if count < len(read_manifest(entry.run.manifest)):
                return []
            folders = latest_scores([entry], config.metric.metrics, required)
        except UserError:
            return []
        if any(len(read_scores([entry.run.scores / name])) < count for name in folders.values()):
            return []
        entries.append(entry)
    return entries


def _worked(command: Command, console: Console) -> list[Entry]:
    done = paint_and_score(command, console)
    if not done.entries:
        raise UserError(f"nothing painted in {command.out} with these settings")
    if done.absent:
        log.warning("left out: %s", absent_text(done.absent))
    order = [run.absent for run in all_runs(command)]
    place = {(one.key, one.seed): number for number, one in enumerate(order)}
    entries = sorted(done.entries, key=lambda entry: place[entry.key, entry.seed])
    check_comparable(entries)
    return entries
