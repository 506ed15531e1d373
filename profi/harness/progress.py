"""Progress: a bar with rate and time left on a terminal, a log line now and then elsewhere."""

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

# Without a bar, seconds between two lines.
PAUSE = 10.0

#: Told how far it is: `images` done, those that were there before included, and speeds.
Listener = Callable[[Mapping[str, float]], None]


class _Rate(ProgressColumn):
    """Images per second, or seconds per image where that is the readable number."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("-")
        return Text(f"{speed:.2f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")


class Meter:
    """Counts images towards a total; tells a listener after each part and now and then between."""

    def __init__(
        self, label: str, total: int, bar: Progress | None, listener: Listener | None = None
    ) -> None:
        self._label, self._total, self._bar, self._listener = label, total, bar, listener
        self._done, self._skipped = 0.0, 0
        self._start = self._told = self._listened = time.monotonic()
        self._task = bar.add_task(label, total=total) if bar is not None else None

    def advance(self, images: float) -> None:
        """Count `images` more; fractions of one are welcome."""
        self._done += images
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, images)
        if time.monotonic() - self._listened >= PAUSE:
            self._listen()

    def skip(self, images: int) -> None:
        """`images` of the total were there before: they count neither as work nor as speed."""
        self._total -= images
        self._skipped += images
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=self._total)

    def tell(self, message: str) -> None:
        """After a part: a line with rate and time left, where there is no bar and one is due."""
        self._listen()
        now = time.monotonic()
        if self._bar is not None or now - self._told < PAUSE:
            return
        self._told = now
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
    label: str, total: int, console: Console, listener: Listener | None = None
) -> Iterator[Meter]:
    """A `Meter` on a console for the duration of a stage."""
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
    """A function to tell (bytes there, bytes in all or None) for the duration of a download."""
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
    start = told = time.monotonic()
    first: int | None = None

    def tell(done: int, total: int | None) -> None:
        nonlocal told, first
        now = time.monotonic()
        # What an earlier transfer left is no speed.
        first = done if first is None else first
        if now - told < PAUSE:
            return
        told = now
        rate = (done - first) / (now - start)
        of = "" if total is None else f" of {total / 1e6:.0f}"
        log.info("%s: %.0f%s MB, %.1f MB/s", label, done / 1e6, of, rate / 1e6)

    yield tell
