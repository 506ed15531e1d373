"""A cache of encodings."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

import torch
from torch import Tensor

T = TypeVar("T")


class Memo:
    """The last `capacity` results by key; the least recently used one is dropped first.

    Results are those of whole batches. A batch put together from cached single samples could differ
    by rounding, and a picture would then depend on what was painted before.
    """

    def __init__(self, capacity: int = 16) -> None:
        self._capacity = capacity
        self._results: OrderedDict[Hashable, object] = OrderedDict()

    def __call__(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The result for `key`, computed if it is not cached."""
        if key not in self._results:
            self._results[key] = compute()
            if len(self._results) > self._capacity:
                self._results.popitem(last=False)
        self._results.move_to_end(key)
        return cast(T, self._results[key])

    def clear(self) -> None:
        """Drop all results."""
        self._results.clear()


def content(tensor: Tensor) -> Hashable:
    """A key for a tensor's values, shape, dtype and device."""
    flat = tensor.detach().contiguous().cpu().view(-1).view(torch.uint8)
    digest = hashlib.blake2b(flat.numpy().tobytes(), digest_size=16).hexdigest()
    return digest, tuple(tensor.shape), str(tensor.dtype), str(tensor.device)
