"""`profi runs`, `profi show` and `profi export`: what the stores hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from profi.types import UserError

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("out", type=FOLDER, default=Path("outputs"))
def runs(out: Path) -> None:
    """List the runs in OUT (outputs): when, what, how far, with which code."""
    from profi.harness.run_list import listed

    found = listed(out)
    if not found:
        raise UserError(f"{out} holds no run: paint one first, or name the folder of the runs")
    click.echo(f"{'run':16}  {'last picture':16}  {'painted':>11}  {'commit':12}  what")
    for item in found:
        painted = f"{item.painted}/{item.triplets}"
        click.echo(
            f"{item.run.run_id:16}  {item.when:16}  {painted:>11}  {item.commit:12}  {item.what}"
        )


@click.command()
@click.argument("run", type=FOLDER)
def show(run: Path) -> None:
    """Say what RUN (outputs/<run id>) is, its scores and failures."""
    from profi.harness.run_list import details

    for line in details(run):
        click.echo(line)


@click.command()
@click.argument("runs", nargs=-1, required=True, type=FOLDER)
@click.option("--to", "target", type=FOLDER, required=True, help="a new folder")
@click.option("--as-painted", is_flag=True, help="the model's own size and output, unblended")
@click.option("--highres", is_flag=True, help="the large pictures of a run with highres=...")
@click.option("--masks", is_flag=True, help="write the masks, too")
@click.option("--inputs", is_flag=True, help="write the given images, too")
@click.option("--data-root", type=FOLDER, help="the given images, if they were moved")
def export(runs: tuple[Path, ...], target: Path, **choices: Any) -> None:
    """Write the pictures of RUNS (outputs/<run id>) as PNG files in the images' own size.

    Outside of the mask they have the given pixels. pictures.csv lists them with their scores.
    """
    from profi.harness.export import TABLE, Choice
    from profi.harness.export import export as write

    def progress(count: int) -> None:
        if count % 100 == 0:
            click.echo(f"{count} pictures", err=True)

    count = write(runs, target, Choice(**choices), progress)
    click.echo(f"{count} pictures: {target / TABLE}")
