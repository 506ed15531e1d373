"""Where a run is told of beside its own files, and the boundary that keeps failures there inside.

Telling is worth less than running: what a logger raises is told once, and the command goes on
without it.
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
    """Which run is told of.

    `run_id` is the run's own, so that one gone on with is told of as the same; `group` the
    experiment's name; `config` nested names and values.
    """

    run_id: str
    name: str
    group: str
    config: Mapping[str, Any]


class RunLog(Protocol):
    """One run, while a command works on it."""

    def progress(self, stage: str, values: Mapping[str, float]) -> None:
        """How far a stage is; `values` has `images` (done so far) and speeds."""

    def results(self, summary: Mapping[str, float], pictures: Sequence[GalleryItem]) -> None:
        """What there is of the run now, replacing what was told before."""

    def finish(self, succeeded: bool) -> None:
        """The command's work on the run ended, or was broken off."""


Opener = Callable[[RunIdentity], RunLog]


class GuardedLog:
    """A `RunLog`, or none, that never raises (but for an interrupt from the keyboard)."""

    def __init__(self, logs: RunLogs, inner: RunLog | None) -> None:
        self._logs, self._inner = logs, inner

    @property
    def listens(self) -> bool:
        """Whether results are worth computing."""
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
        except Exception as error:  # noqa: BLE001  # whatever it is, the run is worth more
            self._logs.give_up(error)


class RunLogs:
    """The logs of a command's runs; after the first failure all of them are silent."""

    def __init__(self, opener: Opener | None = None) -> None:
        self._opener = opener
        self.broken = False

    @contextmanager
    def of(self, identity: RunIdentity) -> Iterator[GuardedLog]:
        """The log of one run for the duration of the work on it."""
        guarded = GuardedLog(self, self._open(identity))
        succeeded = False
        try:
            yield guarded
            succeeded = True
        finally:
            guarded.finish(succeeded)

    def give_up(self, error: Exception) -> None:
        """Tell of the failure, and be silent from now on."""
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        log.warning("the logger failed (%s): going on without it", reason)
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
    """Appends to a file; where that fails (a full disk), it is told once and the run goes on."""

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
        log.warning("%s: %s; no more lines are written there", self.baseFilename, error.strerror)

    def close(self) -> None:
        # It writes what is left.
        with suppress(OSError):
            super().close()


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """What is told meanwhile also goes to a file.

    Raises:
        OSError: it cannot be opened.
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
