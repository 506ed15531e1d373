"""The model libraries' own talk on a terminal."""

from __future__ import annotations

import logging


def hush_libraries() -> None:
    """Keep the model libraries' bars and advice off the terminal; errors still raise."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        # What they call errors they also raise, and then it is told in one line.
        library.set_verbosity(logging.CRITICAL)
        library.disable_progress_bar()
