"""What is done beside the painting: the next batch is read, the last part is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def read_ahead(items: Iterable[T], read: Callable[[T], R]) -> Iterator[tuple[T, R]]:
    """Every item with what `read` makes of it, which is done one item ahead in a thread.

    An exception of `read` is raised when its item's turn comes.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="read") as thread:
        before: tuple[T, Future[R]] | None = None
        for item in items:
            now = item, thread.submit(read, item)
            if before is not None:
                yield before[0], before[1].result()
            before = now
        if before is not None:
            yield before[0], before[1].result()


@contextmanager
def in_background() -> Iterator[Callable[[Callable[[], None]], None]]:
    """A function that has another one called in a thread; at most one call is under way.

    A call waits for the one before, and leaving the block, also by an exception, for the last one.
    An exception of a call is raised by the next one or, at the latest, on leaving the block; where
    another exception ends the block, that one goes on.
    """
    pending: list[Future[None]] = []

    def settle() -> None:
        while pending:
            pending.pop().result()

    def call(function: Callable[[], None]) -> None:
        settle()
        pending.append(thread.submit(function))

    with ThreadPoolExecutor(1, thread_name_prefix="write") as thread:
        yield call
        settle()
