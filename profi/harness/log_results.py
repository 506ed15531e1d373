"""What a logger gets of a run: its identity, its scores and its pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profi.harness.report_pictures import gallery_items, standing_failures
from profi.harness.run_folder import run_record
from profi.harness.run_log import GuardedLog, RunIdentity, RunLogs
from profi.harness.run_status import Entry, collect, read_status
from profi.reports import Expected, GalleryItem, summarise
from profi.reports.names import row_labels
from profi.reports.wandb_log import WandbLog, WandbSettings
from profi.settings import Config
from profi.store.journal import read_lines


def run_logs(config: Config, out: Path) -> RunLogs:
    """The logger of the settings.

    Only the first of several shards logs: a W&B run has one writer.
    """
    logger = config.logger
    if logger.name != "wandb" or not config.shard.startswith("1/"):
        return RunLogs()
    settings = WandbSettings(logger.project, logger.entity, logger.mode, out)

    def opener(run: RunIdentity) -> WandbLog:
        return WandbLog(settings, run.run_id, run.name, run.group, run.config)

    return RunLogs(opener)


def identity(entry: Entry, settings: Mapping[str, Any], group: str) -> RunIdentity:
    """The run's identity, with all settings and versions to compare runs by."""
    starts = read_lines(entry.run.root / "starts.jsonl")
    config: dict[str, Any] = {
        "run_id": entry.run.run_id,
        "model": entry.model,
        "ablation": entry.ablation,
        "reading": entry.reading,
        "seed": entry.seed,
        "settings": settings,
        "pixels": run_record(entry.run)["pixels"],
        "environment": starts[-1] if starts else {},
    }
    # Through JSON: W&B gives a tuple back as a list and would see a change of the settings.
    config = json.loads(json.dumps(config, default=str))
    name = f"{entry.ablation} seed {entry.seed}"
    return RunIdentity(entry.run.run_id, name, group, config)


def log_results(
    log: GuardedLog, entry: Entry, folders: Mapping[str, str], data_root: Path, n_pictures: int
) -> None:
    """Log the run's scores from the stores, and some of its pictures."""
    if not log.is_active:
        return
    status = read_status(entry)
    statuses = {entry: status}
    scores = collect(statuses, folders)
    painted = len(status.part_of)
    summary: dict[str, float] = {
        "images_painted": painted,
        "images_missing": status.n_missing,
        "scores_missing": len(status.triplets) * len(folders) - len(scores),
        "scores_nan": int(scores["value"].isna().sum()),
    }
    if status.seconds:
        summary["seconds_per_image"] = sum(status.seconds) / len(status.seconds)
    pictures: list[GalleryItem] = []
    if not scores.empty:
        expected = Expected(frozenset(status.triplets), frozenset({entry.seed}))
        for line in summarise(scores, expected).itertuples(index=False):
            summary[line.metric] = line.mean
            summary[f"{line.metric}_low"], summary[f"{line.metric}_high"] = line.low, line.high
        failures = standing_failures(statuses, scores, row_labels([entry.key]))
        summary["quarantined"] = len(failures)
        shown = dict.fromkeys(sorted(status.triplets, key=_place)[:n_pictures], "")
        pictures = list(gallery_items(shown, entry.seed, statuses, scores, failures, data_root))
    log.results(summary, pictures)


def _place(triplet_id: str) -> bytes:
    """A pseudo-random sort key that is the same in every run."""
    return hashlib.sha256(triplet_id.encode()).digest()
