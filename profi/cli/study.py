"""`profi study new`, `more`, `serve` and `report`: the user study of appendix D."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from profi.types import UserError

FOLDER = click.Path(path_type=Path)


@contextmanager
def _extra() -> Iterator[None]:
    """UserError if the packages of the extra are missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed: pip install -c constraints.txt -e '.[study]'"
        ) from error


@click.group()
def study() -> None:
    """A user study in a browser (appendix D): make it, serve it, report its votes."""


@study.command(context_settings={"show_default": True, "max_content_width": 100})
@click.argument("folder", type=FOLDER, metavar="STUDY")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--triplets", default=20, help="how many triplets to draw")
@click.option("--participants", default=12, help="how many codes to make")
@click.option("--repeats", default=2, help="triplets that each participant sees twice, as a check")
@click.option("--seed", default=0, help="of the drawn triplets and the participants' orders")
@click.option("--title", default="Which pictures are best?", help="the pages' heading")
@click.option("--consent", type=FOLDER, help="a text file with what participants agree to")
@click.option("--unblended", is_flag=True, help="show what a model painted outside of the mask")
@click.option("--data-root", type=FOLDER, help="the given images, if they were moved")
def new(folder: Path, runs: tuple[str, ...], consent: Path | None, **wishes: Any) -> None:
    """Make STUDY, a new folder, from the pictures of several RUNs (outputs/<run id>).

    A RUN is one method; LABEL=RUN names it in the report. All runs need the same triplets.
    """
    from profi.ui.study.create import Wishes, create, paragraphs

    if consent is not None:
        try:
            text = paragraphs(consent.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--consent {consent} cannot be read as a text file") from error
        if not text:
            raise UserError(f"--consent {consent} is empty: write what participants agree to")
        wishes["consent"] = text
    made = create(folder, runs, Wishes(**wishes))
    click.echo(f"{len(made.triplets)} triplets, {len(made.methods)} methods:")
    for method in made.methods:
        click.echo(f"  {method.label}  ({method.run})")
    click.echo(
        f"give each participant one of the {len(made.codes)} codes in {folder / 'codes.txt'}"
    )
    click.echo(f"then: profi study serve {folder}")


@study.command(context_settings={"show_default": True})
@click.argument("folder", type=FOLDER, metavar="STUDY")
@click.option("--participants", default=12, help="how many codes to add")
def more(folder: Path, participants: int) -> None:
    """Make codes for more participants of STUDY; those who have one keep it."""
    from profi.ui.study.create import more_participants
    from profi.ui.study.folder import StudyFolder

    paths = StudyFolder(folder)
    made, added = more_participants(paths, participants)
    click.echo("\n".join(added))
    click.echo(f"{len(made.codes)} codes in {paths.codes}; start profi study serve {folder} again")


@study.command(context_settings={"show_default": True})
@click.argument("folder", type=FOLDER, metavar="STUDY")
@click.option("--host", default="127.0.0.1", help="0.0.0.0 opens it to others; needs a password")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, help="0: any free one")
@click.option(
    "--password",
    default="",
    envvar="PROFI_STUDY_PASSWORD",
    show_default=False,
    help="asked for in addition to the code; safer in PROFI_STUDY_PASSWORD",
)
def serve(folder: Path, host: str, port: int, password: str) -> None:
    """Serve STUDY to browsers until Ctrl-C; start it again to go on."""
    with _extra():
        from profi.ui.study.folder import StudyFolder
        from profi.ui.study.server import serve as run_server

    run_server(StudyFolder(folder), host, port, password, lambda url: click.echo(f"study at {url}"))
    click.echo(f"stopped; count the votes with: profi study report {folder}")


@study.command(context_settings={"show_default": True})
@click.argument("folder", type=FOLDER, metavar="STUDY")
@click.option("--to", "target", type=FOLDER, show_default="STUDY/report", help="a folder")
@click.option("--resamples", type=click.IntRange(100), default=2000, help="draws of the bootstrap")
@click.option("--seed", default=0, help="of the bootstrap")
def report(folder: Path, target: Path | None, resamples: int, seed: int) -> None:
    """Count the votes of STUDY: tables, figure 12, agreement, and the votes as CSV and Parquet."""
    with _extra():
        from profi.ui.study.study_report import write_report

    for line in write_report(folder, target or folder / "report", resamples, seed):
        click.echo(line)
