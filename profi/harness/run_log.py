"""Loggers of runs, and the guard around them.

A logger's failure must not stop a run: it is logged once, and the command goes on without the
logger.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from profi.reports import GalleryItem

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
