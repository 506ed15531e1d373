"""Grids of paintings, and counts of a pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from profi.figures.drawing import Pick
from profi.figures.layout import Cell, grid, holed
from profi.figures.pool import Pool
from profi.reports.names import RowKey

INPUT = "input"


def gained(pool: Pool, base: RowKey, ours: RowKey) -> list[Pick]:
    """The picks in which the detector finds the label in `ours` and not in `base`."""
    return [p for p in pool.picks if pool.found(ours, p) and not pool.found(base, p)]


def counts(pool: Pool, rows: Mapping[str, RowKey]) -> dict[str, str]:
    """In how many paintings of each row the label is found."""
    total, unknown = len(pool.picks), pool.unknown
    found = {
        f"label found, {label}": f"{sum(pool.found(row, p) for p in pool.picks)} of {total}"
        for label, row in rows.items()
    }
    lacking = {"label not known to the detector": f"{unknown} of {total}"} if unknown else {}
    return found | lacking


def compared(
    pool: Pool, chosen: Sequence[Pick], rows: Mapping[str, RowKey], framed: bool = True
) -> Figure:
    """A grid: the input, then the rows; a column per example with its prompt on top."""
    shown = {label: pool.pictures(row, chosen) for label, row in rows.items()}
    cells = [[input_cell(pool, pick) for pick in chosen]]
    for label, row in rows.items():
        found = [framed and pool.found(row, pick) for pick in chosen]
        cells.append([Cell(shown[label][p], f) for p, f in zip(chosen, found, strict=True)])
    return grid(cells, [pool.prompt(pick) for pick in chosen], [INPUT, *rows])


def input_cell(pool: Pool, pick: Pick) -> Cell:
    """The image as the model sees it."""
    image = pool.given(pick)
    return Cell(holed(image, pool.mask(pick, image.shape[:2])))
