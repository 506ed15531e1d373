"""One thread at a time on a model whose attention is being changed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_NAME = "_profi_lock"


class _Lock:
    """A reentrant lock that a copy of the model does not share."""

    def __init__(self) -> None:
        self.inner = threading.RLock()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Lock:
        return _Lock()

    def __reduce__(self) -> tuple[type[_Lock], tuple[()]]:
        return _Lock, ()


@contextmanager
def exclusive(model: nn.Module) -> Iterator[None]:
    """Wait until no other thread is in such a block of this model.

    The lock belongs to the model, so it also holds between painters and pipelines that share it.
    """
    lock: _Lock = vars(model).setdefault(_NAME, _Lock())
    with lock.inner:
        yield
