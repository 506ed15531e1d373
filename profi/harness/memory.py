"""Batches as large as the memory allows.

A batch that runs out of memory is halved until it fits, and later batches of its kind begin at the
size that did.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from profi.types import MachineError, UserError

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

#: What one sample can be at fault for: bad files, bad numbers, memory that does not suffice. Errors
#: of the program (a TypeError, a missing attribute) would fail every sample and end the run.
FAILURES = (
    ArithmeticError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    ValueError,
    UserError,
)

# PyTorch has a class of its own for the memory of CUDA's allocator alone. These are plain
# RuntimeErrors: the CPU's allocator, C++'s, Apple's, the CUDA driver's and its libraries'.
_TOLD_AS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "std::bad_alloc",
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory does not suffice, the device's or the machine's."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TOLD_AS)


def explained(error: Exception, remedy: str) -> Exception:
    """An item's error or, where the item by itself does not fit, one that names the remedy."""
    if not is_out_of_memory(error):
        return error
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    told = UserError(f"it does not fit into the memory by itself ({reason}): {remedy}")
    told.__cause__ = error
    return told


@dataclass
class BatchLimit:
    """How many items are worked on at once; lowered where so many do not fit."""

    size: int


def work_through(
    items: Sequence[T],
    work: Callable[[Sequence[T]], Sequence[R]],
    limit: BatchLimit,
    give_up: Callable[[T, Exception], None],
    what: str,
) -> tuple[list[R], set[int]]:
    """`work` on all items, in their order, in batches of at most `limit.size`.

    A batch that runs out of memory is halved, and `limit` with it. One that fails otherwise is
    worked on one by one; what fails by itself is given up.

    Args:
        items: what is to be worked on.
        work: a result per item.
        limit: shared by calls whose items take the same memory.
        give_up: is told an item that has no result, and why.
        what: names the work in the log.

    Returns:
        The results there are, and the sizes of the batches that they come from.

    Raises:
        MachineError: no item is at fault; neither is one for errors other than FAILURES.
    """
    results: list[R] = []
    sizes: set[int] = set()
    waiting = [items]
    while waiting:
        batch = waiting.pop()
        if len(batch) > limit.size:
            waiting += [batch[limit.size :], batch[: limit.size]]
            continue
        if not batch:
            continue
        too_large = False
        try:
            results += work(batch)
            sizes.add(len(batch))
        except MachineError:
            raise
        except FAILURES as error:
            too_large = is_out_of_memory(error)
            if len(batch) == 1:
                give_up(batch[0], error)
            elif too_large:
                limit.size = len(batch) // 2
                waiting.append(batch)
                told = "%s: %d at once do not fit into the memory, going on with %d"
                log.warning(told, what, len(batch), limit.size)
            else:
                waiting += [[item] for item in reversed(batch)]
                log.warning("%s: a batch of %d failed (%s): one by one", what, len(batch), error)
        # Only now: inside the handler the error's frames hold what the batch had filled.
        if too_large:
            _free_memory()
    return results, sizes


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
