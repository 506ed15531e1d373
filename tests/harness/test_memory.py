"""Batches that are halved, and what counts as a lack of memory."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch

from profi.harness.memory import BatchLimit, explained, is_out_of_memory, work_through
from profi.types import MachineError, UserError

FAR_TOO_MUCH = 1 << 50  # bytes


@pytest.fixture(autouse=True, scope="module")
def no_garbage_of_others() -> Iterator[None]:
    """Collecting garbage, as every lack of memory does, is quick without all imported objects."""
    gc.freeze()
    yield
    gc.unfreeze()


def error_of(action: Callable[[], object]) -> Exception:
    with pytest.raises((RuntimeError, MemoryError, LookupError, ValueError)) as caught:
        action()
    return caught.value


def test_real_failures_to_get_memory_are_recognised() -> None:
    for action in (
        lambda: torch.empty(FAR_TOO_MUCH, dtype=torch.uint8),
        lambda: np.empty(FAR_TOO_MUCH, dtype=np.uint8),
        lambda: bytearray(FAR_TOO_MUCH),
    ):
        error = error_of(action)
        assert is_out_of_memory(error), repr(error)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))


def test_other_failures_are_not() -> None:
    for action in (
        lambda: torch.zeros(2) @ torch.zeros(3),
        lambda: torch.zeros(2).view(3),
        lambda: [][1],
        lambda: int("memory"),
    ):
        error = error_of(action)
        assert not is_out_of_memory(error), repr(error)
        assert explained(error, "remedy") is error
    # A file may be called so.
    assert not is_out_of_memory(OSError("DefaultCPUAllocator: can't allocate memory"))


class Worker:
    """Doubles numbers, at most `fits` at once, and none that is in `bad`."""

    def __init__(self, fits: int = 1000, bad: Sequence[int] = ()) -> None:
        self.fits, self.bad, self.calls = fits, bad, list[int]()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.calls.append(len(items))
        if len(items) > self.fits:
            raise MemoryError
        if set(items) & set(self.bad):
            raise ValueError("bad")
        return [2 * item for item in items]


@pytest.mark.parametrize("count", [0, 1, 7, 32, 45])
@pytest.mark.parametrize("fits", [1, 2, 3, 5, 8, 100])
@pytest.mark.parametrize("bad", [(), (3,), (0, 6, 31)])
def test_every_item_is_worked_on_in_order_or_given_up(
    count: int, fits: int, bad: tuple[int, ...]
) -> None:
    given_up: list[int] = []
    limit, worker = BatchLimit(32), Worker(fits, bad)
    results, sizes = work_through(
        range(count), worker, limit, lambda item, _: given_up.append(item), "doubling"
    )
    assert results == [2 * item for item in range(count) if item not in bad]
    assert given_up == [item for item in bad if item < count]
    assert max(sizes, default=0) <= fits
    assert (not sizes) == (not results)
    # Halving finds the largest power-of-two share that fits and runs into each wall once.
    walls = [size for size in worker.calls if size > fits]
    assert len(walls) == len(set(walls))
    if walls:
        assert limit.size == walls[-1] // 2


def test_what_does_not_fit_by_itself_is_given_up_with_the_reason() -> None:
    messages: list[str] = []

    def give_up(_: int, error: Exception) -> None:
        messages.append(str(explained(error, "buy more")))

    results, sizes = work_through([1, 2], Worker(fits=0), BatchLimit(2), give_up, "doubling")
    assert (results, sizes) == ([], set())
    assert messages == ["it does not fit into the memory by itself (MemoryError): buy more"] * 2


@pytest.mark.parametrize("error", [MachineError("no compiler"), TypeError("a bug")])
def test_errors_of_no_item_pass(error: Exception) -> None:
    def work(_: Sequence[int]) -> list[int]:
        raise error

    with pytest.raises(type(error)):
        work_through([1, 2], work, BatchLimit(2), lambda *_: None, "doubling")
    assert issubclass(MachineError, UserError)
