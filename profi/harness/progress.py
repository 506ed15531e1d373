"""Progress: a bar with rate and time left on a terminal, elsewhere a log line every few seconds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

log = logging.getLogger(__name__)

# Seconds between two log lines, or two calls of a listener.
PAUSE = 10.0

#: Called with the progress: `images` done (earlier ones included), `images_per_second` and
#: `seconds_left`.
Listener = Callable[[Mapping[str, float]], None]


class _Rate(ProgressColumn):
    """Images per second; seconds per image if an image takes longer than a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("-")
        return Text(f"{speed:.2f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")


class Meter:
    """Counts images towards a total; calls a listener after each part and every few seconds."""

    def __init__(
        self, label: str, total: int, bar: Progress | None, listener: Listener | None = None
    ) -> None:
        self._label, self._total, self._bar, self._listener = label, total, bar, listener
        self._done, self._skipped = 0.0, 0
        self._start = self._logged = self._listened = time.monotonic()
        self._task = bar.add_task(label, total=total) if bar is not None else None

    def advance(self, images: float) -> None:
        """Count `images` more; fractions of an image count too."""
        self._done += images
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, images)
        if time.monotonic() - self._listened >= PAUSE:
            self._listen()
        if self._bar is None and time.monotonic() - self._logged >= PAUSE:
            self.log("in work")

    def extend(self, images: int) -> None:
        """Add `images` to the total."""
        self._total += images
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=self._total)

    def skip(self, images: int) -> None:
        """Count `images` of the total as already there: neither as work nor for the speed."""
        self._skipped += images
        self.extend(-images)

    def log(self, message: str) -> None:
        """Log rate and time left after a part, unless there is a bar or the last line is recent."""
        self._listen()
        now = time.monotonic()
        if self._bar is not None or now - self._logged < PAUSE:
            return
        self._logged = now
        rate, left = self._speed(now)
        log.info(
            "%s: %s, %d/%d images, %.2f/s, %.0f s left",
            self._label,
            message,
            round(self._done),
            self._total,
            rate,
            left,
        )

    def _speed(self, now: float) -> tuple[float, float]:
        """Images per second so far, and seconds left."""
        elapsed = now - self._start
        rate = self._done / elapsed if elapsed > 0 else 0.0
        return rate, (self._total - self._done) / rate if rate > 0 else 0.0

    def _listen(self) -> None:
        if self._listener is None:
            return
        self._listened = time.monotonic()
        rate, left = self._speed(self._listened)
        images = self._skipped + self._done
        self._listener({"images": images, "images_per_second": rate, "seconds_left": left})


@contextmanager
def meter(
    console: Console, label: str, total: int, listener: Listener | None = None
) -> Iterator[Meter]:
    """A `Meter` on a console, for one stage."""
    if not console.is_terminal or total == 0:
        yield Meter(label, total, None, listener)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        yield Meter(label, total, bar, listener)


@contextmanager
def byte_meter(label: str, console: Console | None) -> Iterator[Callable[[int, int | None], None]]:
    """A function to call with (bytes so far, bytes in all or None), for one download."""
    if console is not None and console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(label, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    start = logged = time.monotonic()
    first: int | None = None

    def report(done: int, total: int | None) -> None:
        nonlocal logged, first
        now = time.monotonic()
        # Bytes of an earlier download do not count for the speed.
        first = done if first is None else first
        if now - logged < PAUSE:
            return
        logged = now
        rate = (done - first) / (now - start)
        of = "" if total is None else f" of {total / 1e6:.0f}"
        log.info("%s: %.0f%s MB, %.1f MB/s", label, done / 1e6, of, rate / 1e6)

    yield report
