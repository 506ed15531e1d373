"""Silences the log output of the model libraries."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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
