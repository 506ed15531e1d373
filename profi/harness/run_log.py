"""Loggers of runs, the guard around them, and what a logger gets of a run.

A logger's failure must not stop a run: it is logged once, and the command goes on without the
logger.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from profi.harness.report_pictures import gallery_items, standing_failures
from profi.harness.run_folder import run_record
from profi.harness.run_status import Entry, collect, read_status
from profi.reports import Expected, GalleryItem, summarise
from profi.reports.names import row_labels
from profi.reports.wandb_log import WandbLog, WandbSettings
from profi.settings import Config
from profi.store.parts import read_lines

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunIdentity:
    """Identifies a run for a logger.

    `run_id` is the id of the run's folder, so that a resumed run is logged as the same run; `group`
    is the experiment's name; `config` has nested names and values.
    """

    run_id: str
    name: str
    group: str
    config: Mapping[str, Any]


class RunLog(Protocol):
    """The logger of one run."""

    def progress(self, stage: str, values: Mapping[str, float]) -> None:
        """Log a stage's progress; `values` has `images` (done so far) and speeds."""

    def results(self, summary: Mapping[str, float], pictures: Sequence[GalleryItem]) -> None:
        """Log the run's current results; they replace earlier ones."""

    def finish(self, succeeded: bool) -> None:
        """Close the log; `succeeded` is False if an error ended the work."""


Opener = Callable[[RunIdentity], RunLog]


class GuardedLog:
    """Passes calls to a `RunLog`, if there is one; never raises an Exception."""

    def __init__(self, logs: RunLogs, inner: RunLog | None) -> None:
        self._logs, self._inner = logs, inner

    @property
    def is_active(self) -> bool:
        """Whether a logger receives the results."""
        return self._inner is not None and not self._logs.broken

    def progress(self, stage: str, values: Mapping[str, float]) -> None:
        """See `RunLog.progress`."""
        self._call(lambda inner: inner.progress(stage, values))

    def results(self, summary: Mapping[str, float], pictures: Sequence[GalleryItem]) -> None:
        """See `RunLog.results`."""
        self._call(lambda inner: inner.results(summary, pictures))

    def finish(self, succeeded: bool) -> None:
        """See `RunLog.finish`."""
        self._call(lambda inner: inner.finish(succeeded))

    def _call(self, action: Callable[[RunLog], None]) -> None:
        if self._inner is None or self._logs.broken:
            return
        try:
            action(self._inner)
        except Exception as error:  # noqa: BLE001  # no logger may stop a run
            self._logs.give_up(error)


class RunLogs:
    """The logs of a command's runs; after the first failure none of them logs any more."""

    def __init__(self, opener: Opener | None = None) -> None:
        self._opener = opener
        self.broken = False

    @contextmanager
    def of(self, identity: RunIdentity) -> Iterator[GuardedLog]:
        """The log of one run, closed at the end of the block."""
        guarded = GuardedLog(self, self._open(identity))
        succeeded = False
        try:
            yield guarded
            succeeded = True
        finally:
            guarded.finish(succeeded)

    def give_up(self, error: Exception) -> None:
        """Log the failure and stop logging."""
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        log.warning("the logger failed (%s): continuing without it", reason)
        log.debug("the logger's failure", exc_info=error)
        self.broken = True

    def _open(self, identity: RunIdentity) -> RunLog | None:
        if self._opener is None or self.broken:
            return None
        try:
            return self._opener(identity)
        except Exception as error:  # noqa: BLE001  # see GuardedLog
            self.give_up(error)
            return None


class _LogFile(logging.FileHandler):
    """Appends to a file; if that fails (a full disk), it warns once and the run goes on."""

    given_up = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.given_up:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's own name)
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self.given_up = True
        log.warning("%s: %s; logging to this file stops", self.baseFilename, error.strerror)

    def close(self) -> None:
        # Closing writes the buffered lines, which may fail again.
        with suppress(OSError):
            super().close()


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Append the log lines of the block to a file too.

    Raises:
        OSError: the file cannot be opened.
    """
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("profi")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


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
