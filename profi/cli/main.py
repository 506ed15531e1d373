"""The command `profi` with its subcommands."""

from __future__ import annotations

import sys

import click

from profi.cli.paint import paint, run_command
from profi.cli.stores import export, runs, show
from profi.cli.study import study
from profi.cli.ui import ui


@click.group(no_args_is_help=False)
def profi() -> None:
    """ProFI-Painter: prompt-faithful image inpainting, its ablations and its benchmark."""


for command in (paint, runs, show, export, study, ui):
    profi.add_command(command)


# Hydra parses the arguments of these, --help too.
HYDRA = {"ignore_unknown_options": True, "help_option_names": []}


@profi.command(context_settings=HYDRA)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Paint, score and report: `profi run --help` lists all settings."""
    _run(*arguments)


@profi.command(context_settings=HYDRA)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def fetch(arguments: tuple[str, ...]) -> None:
    """Get the data and weights of a `profi run` with these arguments beforehand."""
    _run(*arguments, "stage=fetch")


@profi.command(context_settings=HYDRA)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def check(arguments: tuple[str, ...]) -> None:
    """Try what a `profi run` with these arguments needs, on one picture per row."""
    _run(*arguments, "stage=check")


def _run(*arguments: str) -> None:
    sys.argv = ["profi run", *arguments]
    from profi.cli.run import main as run_main

    run_main()


def main() -> None:
    """The entry point."""
    sys.exit(run_command(profi, sys.argv[1:] or ["--help"], "profi"))
