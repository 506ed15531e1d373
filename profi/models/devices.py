"""How models run on this machine: devices, one thread at a time, quiet libraries."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from profi.settings import check_device
from profi.types import UserError

#: Values of CUDA_VISIBLE_DEVICES for no GPU; the last is Slurm's.
NO_GPU = ("", "-1", "NoDevFiles")


def resolve_device(key: str, name: str) -> str:
    """A device's name; `auto` becomes the best available device.

    Raises:
        UserError: the device is not available (the message names `key`); or the name is `auto` and
            PyTorch does not see the GPU of CUDA_VISIBLE_DEVICES (on the CPU a run takes days).
    """
    check_device(key, name)
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        assigned = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        if not cuda and assigned not in NO_GPU:
            raise UserError(
                f"CUDA_VISIBLE_DEVICES={assigned}: PyTorch sees no such GPU; "
                f"set an available one, or choose {key}=cpu"
            )
        return "cuda" if cuda else "mps" if mps else "cpu"
    if name.startswith("cuda"):
        index = int(name.partition(":")[2] or 0)
        if not cuda or index >= torch.cuda.device_count():
            raise UserError(f"{key}={name}: PyTorch sees no such device; use auto")
    if name.startswith("mps") and not mps:
        raise UserError(f"{key}={name}: PyTorch sees no such device; use auto")
    return name


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


def _libraries() -> tuple[Any, Any]:
    """The modules that control the libraries' log output."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    return diffusers_logging, transformers_logging


def _silence(libraries: tuple[Any, Any]) -> None:
    for library in libraries:
        # Their logged errors are also raised, and those are reported in one line.
        library.set_verbosity(logging.CRITICAL)
        library.disable_progress_bar()


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No progress bars and warnings of diffusers and transformers inside the block."""
    libraries = _libraries()
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    _silence(libraries)
    try:
        yield
    finally:
        for library, (verbosity, bar) in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            if bar:
                library.enable_progress_bar()


def silence_libraries() -> None:
    """Hide the progress bars and warnings of diffusers and transformers; errors still raise.

    Also in processes that this one starts.
    """
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(name, "critical")
    _silence(_libraries())
