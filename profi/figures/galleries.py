"""Figures 22 to 25: results of the full method, small and large."""

from __future__ import annotations

from profi.figures.context import FigureContext
from profi.figures.drawing import Drawing, Pick
from profi.figures.grids import counts, input_cell
from profi.figures.layout import FULL, Cell, grid
from profi.figures.pool import Pool

EXAMPLES, PAIRS_PER_ROW = 12, 3
#: Examples of a large figure.
LARGE = 2


def figure_22(context: FigureContext) -> Drawing:
    """Pairs of input and result in a grid."""
    pool, found = _found(context)
    chosen = context.choose(found, pool.prompt, EXAMPLES, pool.picks)
    return _gallery(context, pool, found, chosen, PAIRS_PER_ROW)


def figure_23(context: FigureContext) -> Drawing:
    """Two results, large."""
    return _large(context)


def figure_24(context: FigureContext) -> Drawing:
    """Two more."""
    return _large(context)


def figure_25(context: FigureContext) -> Drawing:
    """Two more."""
    return _large(context)


def _large(context: FigureContext) -> Drawing:
    pool, found = _found(context)
    chosen = context.choose(found, pool.prompt, LARGE, pool.picks)
    return _gallery(context, pool, found, chosen, 1)


def _found(context: FigureContext) -> tuple[Pool, list[Pick]]:
    pool = context.pool(context.of_one_model("profi"))
    (row,) = pool.rows
    return pool, [pick for pick in pool.picks if pool.found(row, pick)]


def _gallery(
    context: FigureContext, pool: Pool, found: list[Pick], chosen: list[Pick], across: int
) -> Drawing:
    """Pairs of input and result, `across` of them in a row, each with its prompt below."""
    (row,) = pool.rows
    shown = pool.pictures(row, chosen)
    lines = [chosen[start : start + across] for start in range(0, len(chosen), across)]
    across = max(map(len, lines))
    cells = [
        [
            cell
            for pick in line
            for cell in (input_cell(pool, pick), Cell(shown[pick], note=pool.prompt(pick)))
        ]
        for line in lines
    ]
    figure = grid(
        cells,
        ["input", "ProFI"] * across,
        after=range(1, 2 * across - 1, 2),
        largest=FULL / 2,
    )
    return Drawing(
        figure,
        "Results of the full method: input and painting, with the prompt below.",
        context.rule(
            f"Among the {len(pool.picks)} paintings those in which the detector finds the label "
            f"({len(found)})."
        ),
        chosen,
        counts(pool, {"ProFI": row}),
    )
