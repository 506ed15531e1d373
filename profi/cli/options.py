"""What the commands made with click share: types of options, and the exit status."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from profi.types import UserError

REFUSED = 2
INTERRUPTED = 130
FILE = click.Path(path_type=Path)


class Number(click.ParamType):
    """A finite number from `least` to `most`."""

    def __init__(self, kind: type, least: float, most: float) -> None:
        self.kind, self.least, self.most = kind, least, most
        self.name = "N" if kind is int else "X"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; a usage error for any other text."""
        try:
            number = self.kind(value)
        except ValueError:
            number = math.nan
        # In this form the condition also refuses NaN.
        if not (self.least <= number <= self.most and math.isfinite(number)):
            limit = f"from {self.least:g} to {self.most}"
            limit = limit if math.isfinite(self.most) else f"of at least {self.least:g}"
            what = "a whole number" if self.kind is int else "a number"
            self.fail(f"{str(value)!r} is not {what} {limit}", param, ctx)
        return number


def shown(name: str, **options: Any) -> Callable[..., Any]:
    """An option that shows its default in the help."""
    return click.option(name, show_default=True, **options)


def run_command(command: click.Command, arguments: Sequence[str], name: str) -> int:
    """The exit status: 0, 2 for a mistake (one line), 130 when interrupted."""
    try:
        result = command.main(list(arguments), name, standalone_mode=False)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return REFUSED
    except click.ClickException as error:
        message = " ".join(error.format_message().split()).rstrip(".")
        context = getattr(error, "ctx", None)
        usage = f" ({' '.join(context.get_usage().split())})" if context is not None else ""
        sys.stderr.write(f"error: {message}; see --help{usage}\n")
        return REFUSED
    except OSError as error:
        # A full disk or a missing permission is not a fault of the program.
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"error: {where}{' '.join(str(error.strerror or error).split())}\n")
        return REFUSED
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("interrupted: nothing was written\n")
        return INTERRUPTED
    return result if isinstance(result, int) else 0
