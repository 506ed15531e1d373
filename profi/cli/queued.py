"""Jobs of a queue: errors that submitit raises while a job runs."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any


class _Ended(BaseException):
    """A queue ended the job. Not an Exception, so that no `except Exception` catches it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def signals_of(package: str) -> Iterator[None]:
    """Let errors from a package's signal handlers end the program.

    After too many timeouts submitit ends a job by a RuntimeError from its signal handler. Raised
    during painting, that error would look like a failed sample and be caught.
    """

    def handle(
        inner: Callable[[int, FrameType | None], Any], number: int, frame: FrameType | None
    ) -> None:
        try:
            inner(number, frame)
        except Exception as error:
            raise _Ended(error) from error

    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    wrapped = {
        number: handler
        for number, handler in handlers.items()
        if callable(handler) and str(handler.__module__).partition(".")[0] == package
    }
    for number, handler in wrapped.items():
        signal.signal(number, partial(handle, handler))
    try:
        yield
    except _Ended as ended:
        raise ended.error from None
    finally:
        for number, handler in wrapped.items():
            signal.signal(number, handler)


def raised_in(error: BaseException, package: str) -> bool:
    """Whether an error's class belongs to a package, or its code raised the error."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    # An error from another process has no traceback.
    places = [type(error).__module__]
    places += [last.tb_frame.f_globals["__name__"]] if last is not None else []
    return any(name.partition(".")[0] == package for name in places)
