"""Batches as large as the memory allows.

A batch that runs out of memory is halved until it fits. Later batches of its kind start at that
size.
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

#: Errors that one sample can cause: a bad file, bad numbers, too little memory. Errors of the
#: program (a TypeError, a missing attribute) would occur for every sample, so they end the run.
FAILURES = (
    ArithmeticError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    ValueError,
    UserError,
)

# torch.OutOfMemoryError is of CUDA's allocator only. The other sources (the CPU's allocator, C++,
# Apple's MPS, the CUDA driver and its libraries) raise a RuntimeError with one of these texts.
_OUT_OF_MEMORY_TEXTS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "std::bad_alloc",
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device or the machine ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        text in str(error) for text in _OUT_OF_MEMORY_TEXTS
    )


def explained(error: Exception, remedy: str) -> Exception:
    """The error; if the item does not fit into the memory, a UserError with the remedy."""
    if not is_out_of_memory(error):
        return error
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    explanation = UserError(f"it does not fit into the memory by itself ({reason}): {remedy}")
    explanation.__cause__ = error
    return explanation


@dataclass
class BatchLimit:
    """How many items are processed at once; lowered when so many do not fit."""

    size: int


def work_through(
    items: Sequence[T],
    work: Callable[[Sequence[T]], Sequence[R]],
    limit: BatchLimit,
    give_up: Callable[[T, Exception], None],
    what: str,
) -> tuple[list[R], set[int]]:
    """`work` on all items, in their order, in batches of at most `limit.size`.

    A batch that runs out of memory is halved, and `limit` with it. A batch that fails otherwise is
    processed item by item; an item that fails alone goes to `give_up`.

    Args:
        items: the items.
        work: returns one result per item.
        limit: shared by calls whose items take the same memory.
        give_up: called with each item that has no result, and its error.
        what: the name of the work in log lines.

    Returns:
        The results, and the sizes of the batches that gave them.

    Raises:
        MachineError: from `work`; no item is at fault. Errors other than FAILURES are raised too.
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
                message = "%s: %d at once do not fit into the memory, going on with %d"
                log.warning(message, what, len(batch), limit.size)
            else:
                waiting += [[item] for item in reversed(batch)]
                log.warning("%s: a batch of %d failed (%s): one by one", what, len(batch), error)
        # After the handler: inside it, the error's frames still hold the batch's memory.
        if too_large:
            _free_memory()
    return results, sizes


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
