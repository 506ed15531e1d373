"""The command `profi` with its subcommands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from profi.catalogue import catalogue
from profi.cli.options import run_command
from profi.cli.paint import paint
from profi.cli.stores import export, runs, show
from profi.cli.study import study
from profi.cli.ui import ui


@click.group(no_args_is_help=False)
def profi() -> None:
    """ProFI-Painter: prompt-faithful image inpainting, its ablations and its benchmark."""
    catalogue.add_installed_plugins()


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
    _explain("fetch", arguments)
    _run(*arguments, "stage=fetch")


@profi.command(context_settings=HYDRA)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def check(arguments: tuple[str, ...]) -> None:
    """Try what a `profi run` with these arguments needs, on one picture per row."""
    _explain("check", arguments)
    _run(*arguments, "stage=check")


@profi.command(context_settings={"ignore_unknown_options": True})
@click.argument("figures", nargs=1)
@click.option("--select", help="triplets to show in place of the rule's: ID@SEED,...")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def figure(figures: str, select: str | None, arguments: tuple[str, ...]) -> None:
    """Draw FIGURES of the paper (3, or 6,7, or all), with settings of `profi run`."""
    words = figure_words(figures, select, arguments)
    _run(*words)


def figure_words(figures: str, select: str | None, arguments: Sequence[str]) -> list[str]:
    """The arguments of `profi run` that draw figures.

    `all` are those that can be drawn: without `figure.votes` there is no user study.
    """
    from profi.cli.words import plugins_in

    catalogue.add_plugins(plugins_in(arguments))
    keys = {text.lstrip("+").partition("=")[0] for text in arguments}
    known = catalogue.figures.entries()
    if figures == "all":
        names = [one.name for one in known if not one.needs or one.needs in keys]
    else:
        names = [catalogue.figures.get(name, "figure").name for name in figures.split(",")]
    words = [*arguments, "stage=figure", f"figure={','.join(names)}"]
    if select is not None:
        listed = ",".join(f'"{name.strip()}"' for name in select.split(","))
        words.append(f"figure.select=[{listed}]")
    return ["-m", *words] if len(names) > 1 else words


def _explain(name: str, arguments: Sequence[str]) -> None:
    """For --help, a line above that of `profi run`."""
    if {"--help", "-h"} & set(arguments):
        click.echo(f"profi {name}: {profi.commands[name].help} The settings are those of it:\n")


def _run(*arguments: str) -> None:
    sys.argv = ["profi run", *arguments]
    from profi.cli.run import main as run_main

    run_main()


def main() -> None:
    """The entry point."""
    sys.exit(run_command(profi, sys.argv[1:] or ["--help"], "profi"))
