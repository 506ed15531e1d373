"""One thread that works for many people, one order after the other."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from profi.painting import Cancelled
from profi.types import UserError
from profi.ui.painter.orders import Waiting

HEARTBEAT_SECONDS = 0.5

#: From a function that sends an event to the listener, to the result.
Work = Callable[[Callable[[Any], None]], Any]


@dataclass(eq=False)
class _Ticket:
    """An order's place in the line, and its events until the listener takes them."""

    events: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)


@dataclass
class WaitingLine:
    """Orders run in the order in which they came; `most_waiting` may wait, others are refused."""

    most_waiting: int
    # One thread: torch keeps a pool of threads for each thread that computes.
    _worker: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="painter"), repr=False
    )
    _tickets: list[_Ticket] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _closed: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def closed(self) -> bool:
        """Whether running work should end."""
        return self._closed.is_set()

    def submit(self, work: Callable[..., Any], *args: Any) -> None:
        """Run something in the line's thread that nobody listens to."""
        self._worker.submit(work, *args)

    def close(self) -> None:
        """Start nothing more."""
        self._closed.set()
        self._worker.shutdown(wait=False, cancel_futures=True)

    def run(self, work: Work, cancel: threading.Event) -> Iterator[Any]:
        """The order's place in the line, the events that `work` sends, and at last its result.

        While it works and sends nothing, its place is repeated: `Waiting(0)`. Only so a server
        notices that a listener has gone.

        Raises UserError if too many wait, Cancelled if `cancel` is set before the work starts. When
        the caller stops listening, `cancel` is set.
        """
        ticket = _Ticket()
        with self._lock:
            if len(self._tickets) > self.most_waiting:
                raise UserError("too many people are waiting: try again in a minute")
            self._tickets.append(ticket)
        future = self._worker.submit(work, ticket.events.put)
        future.add_done_callback(ticket.events.put)
        self._send_places()
        try:
            while True:
                try:
                    event = ticket.events.get(timeout=HEARTBEAT_SECONDS)
                except queue.Empty:
                    # Only when something is sent to a listener, it turns out that it has gone.
                    event = Waiting(self._place(ticket))
                if isinstance(event, Future):
                    yield event.result()
                    return
                if cancel.is_set() and future.cancel():
                    raise Cancelled("cancelled before it started")
                yield event
        finally:
            cancel.set()
            future.cancel()
            with self._lock:
                self._tickets.remove(ticket)
            self._send_places()

    def _place(self, ticket: _Ticket) -> int:
        with self._lock:
            return self._tickets.index(ticket)

    def _send_places(self) -> None:
        with self._lock:
            for before, ticket in enumerate(self._tickets):
                ticket.events.put(Waiting(before))
