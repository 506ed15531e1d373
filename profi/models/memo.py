"""Encodings that need not be computed twice."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

import torch
from torch import Tensor

T = TypeVar("T")


class Memo:
    """The last `capacity` results, by key; the least recently used one goes first.

    Results are of whole batches: one put together from single samples' results could differ from
    it in rounding, and a picture would depend on what was painted before.
    """

    def __init__(self, capacity: int = 16) -> None:
        self._capacity = capacity
        self._results: OrderedDict[Hashable, object] = OrderedDict()

    def __call__(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The result for `key`, computed where it is not held."""
        if key not in self._results:
            self._results[key] = compute()
            if len(self._results) > self._capacity:
                self._results.popitem(last=False)
        self._results.move_to_end(key)
        return cast(T, self._results[key])

    def clear(self) -> None:
        """Forget everything."""
        self._results.clear()


def content(tensor: Tensor) -> Hashable:
    """What stands for a tensor's values, shape, dtype and device in a key."""
    flat = tensor.detach().contiguous().cpu().view(-1).view(torch.uint8)
    digest = hashlib.blake2b(flat.numpy().tobytes(), digest_size=16).hexdigest()
    return digest, tuple(tensor.shape), str(tensor.dtype), str(tensor.device)
