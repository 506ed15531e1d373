"""Where a run is told of beside its own files, and the boundary that keeps failures there inside.

Telling is worth less than running: what a logger raises is told once, and the command goes on
without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
