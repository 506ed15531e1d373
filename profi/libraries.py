"""The model libraries' own talk on a terminal."""

from __future__ import annotations


def hush_libraries() -> None:
    """Keep the model libraries' bars and advice off the terminal; errors still raise."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
