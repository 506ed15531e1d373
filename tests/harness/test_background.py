from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from profi.harness.generate import in_background, read_ahead


def test_the_next_item_is_read_while_one_is_worked_on() -> None:
    started = [threading.Event() for _ in range(4)]

    def read(item: int) -> int:
        started[item].set()
        return 10 * item

    seen = []
    for item, value in read_ahead(range(4), read):
        if item < 3:
            assert started[item + 1].wait(10)
        if item < 2:
            assert not started[item + 2].is_set(), "only one item ahead is held in memory"
        seen.append((item, value))
    assert seen == [(0, 0), (1, 10), (2, 20), (3, 30)]


def test_what_cannot_be_read_is_raised_in_its_turn() -> None:
    def read(item: int) -> int:
        return 1 // item

    ahead = read_ahead([2, 1, 0, 3], read)
    assert [next(ahead), next(ahead)] == [(2, 0), (1, 1)]
    with pytest.raises(ZeroDivisionError):
        next(ahead)


def test_calls_run_parallel_to_the_block_one_after_the_other() -> None:
    gate, order = threading.Event(), []

    def first() -> None:
        assert gate.wait(10)
        order.append("first")

    with in_background() as call:
        call(first)
        assert order == []
        gate.set()
        call(lambda: order.append("second"))
        assert order[0] == "first"
    assert order == ["first", "second"]


def test_an_exception_comes_out_of_the_block() -> None:
    def full() -> None:
        raise OSError("No space left on device")

    def run(*calls: Callable[[], None]) -> None:
        with in_background() as call:
            for each in calls:
                call(each)

    with pytest.raises(OSError, match="No space"):
        run(full)
    with pytest.raises(OSError, match="No space"):
        run(full, lambda: None)


def test_an_interrupt_waits_for_what_is_being_written() -> None:
    done = []

    def slow() -> None:
        time.sleep(0.1)
        done.append(True)

    def interrupted() -> None:
        with in_background() as call:
            call(slow)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == [True]


def test_without_a_thread_a_call_runs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    done: list[int] = []
    with in_background() as call:
        for i in range(3):
            call(lambda i=i: done.append(i))
            assert done == list(range(i + 1))
