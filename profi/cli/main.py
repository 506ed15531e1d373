"""The command `profi` with its subcommands."""

from __future__ import annotations

import sys

import click

from profi.cli.paint import paint, run_command
from profi.cli.stores import export, runs, show


@click.group(no_args_is_help=False)
def profi() -> None:
    """ProFI-Painter: prompt-faithful image inpainting, its ablations and its benchmark."""


for command in (paint, runs, show, export):
    profi.add_command(command)


# Hydra parses these arguments, --help too.
@profi.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Paint, score and report: `profi run --help` lists all settings."""
    sys.argv = ["profi run", *arguments]
    from profi.cli.run import main as run_main

    run_main()


def main() -> None:
    """The entry point."""
    sys.exit(run_command(profi, sys.argv[1:], "profi"))
