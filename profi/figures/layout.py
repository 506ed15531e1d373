"""Grids of pictures at print size."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from profi.reports.thumbnails import outlined

#: Inches: the width of the paper's text, and that of a column of a two-column page.
FULL, COLUMN = 5.5, 3.25
#: Okabe and Ito's colours, which colour-blind readers tell apart.
BLACK, BLUE, ORANGE, GREEN, RED = "#000000", "#0072B2", "#E69F00", "#009E73", "#D55E00"
COLOURS = (BLUE, RED, GREEN, ORANGE, "#CC79A7", "#56B4E9", BLACK, "#F0E442")
#: Inches: between two cells, a line of text, and a character's width.
GAP, LINE, CHARACTER = 0.04, 0.115, 0.062
#: Inches: the largest side of a cell, unless a figure asks for more.
LARGEST = 1.1
GREY = 127
#: What the frames of `found` mean.
FRAMES = "A blue frame: the detector finds the label in the mask's box."


@dataclass(frozen=True, eq=False)
class Cell:
    """A picture of a grid.

    Fields:
        picture: uint8 [H, W, 3], or a map, float [H, W].
        found: True draws a frame.
        note: a short text below.
        limits: the ends of a map's colours.
        mask: bool [H, W]; its outline is drawn.
        boxes: (x0, y0, x1, y1) in pixels with their colours.
    """

    picture: np.ndarray
    found: bool = False
    note: str = ""
    limits: tuple[float, float] | None = None
    mask: np.ndarray | None = None
    boxes: Sequence[tuple[tuple[float, float, float, float], str]] = ()


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches; not of pyplot, which has global state."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def holed(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image, uint8 [H, W, 3], as a model sees it: the hole is grey, with an outline."""
    seen = np.where(mask[..., None], GREY, image).astype(np.uint8)
    return outlined(seen, mask, (213, 94, 0), max(2, 2 * round(max(mask.shape) / 128)))


def grid(
    cells: Sequence[Sequence[Cell]],
    columns: Sequence[str],
    rows: Sequence[str] = (),
    *,
    width: float = FULL,
    label: float = 0.72,
    notes: Sequence[str] = (),
    colormap: str = "jet",
    after: Sequence[int] = (),
    largest: float = LARGEST,
) -> Figure:
    """Pictures in rows and columns, all cells square.

    The figure is narrower than `width` if its cells would be larger than `largest`.

    Args:
        cells: by rows.
        columns: texts above the columns.
        rows: texts left of the rows.
        width: in inches.
        label: the width of the rows' texts, in inches.
        notes: texts below the columns.
        colormap: of maps.
        after: a wider gap follows these columns.
        largest: side of a cell, in inches.
    """
    label = label if rows else 0.0
    gaps = GAP * (len(columns) - 1) + 2 * GAP * len(after)
    side = min(largest, (width - label - gaps) / len(columns))
    width = label + gaps + side * len(columns)
    above, below = (wrapped(texts, side) for texts in (columns, notes))
    top = LINE * lines_of(above) + 0.06
    under = [LINE + 0.02 if any(cell.note for cell in line) else 0.0 for line in cells]
    bottom = LINE * lines_of(below) + (0.06 if below else 0.0)
    height = top + (side + GAP) * len(cells) - GAP + sum(under) + bottom
    figure = new_figure(width, height)
    lefts = [
        label + i * (side + GAP) + 2 * GAP * sum(i > end for end in after)
        for i in range(len(columns))
    ]
    for i, line in enumerate(cells):
        y = height - top - i * (side + GAP) - sum(under[:i]) - side
        for x, cell in zip(lefts, line, strict=False):
            axes = figure.add_axes((x / width, y / height, side / width, side / height))
            show(axes, cell, colormap)
            if cell.note:
                _text(figure, x + side / 2, y - 0.1, cell.note, "center", "baseline", 6)
        if rows:
            text = "\n".join(textwrap.wrap(rows[i], max(4, int(label / CHARACTER))))
            _text(figure, label - 0.06, y + side / 2, text, "right", "center", 7)
    for x, text in zip(lefts, above, strict=True):
        _text(figure, x + side / 2, height - top + 0.05, text, "center", "baseline", 7)
    for x, text in zip(lefts, below, strict=False):
        _text(figure, x + side / 2, bottom - 0.04, text, "center", "top", 6)
    return figure


def show(axes: Axes, cell: Cell, colormap: str) -> None:
    """A cell in its axes."""
    low, high = cell.limits or (None, None)
    axes.imshow(cell.picture, cmap=colormap, vmin=low, vmax=high, interpolation="none")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    height, width = cell.picture.shape[:2]
    if cell.mask is not None:
        outline(axes, cell.mask)
    for (x0, y0, x1, y1), colour in cell.boxes:
        for edge, line in (("white", 1.8), (colour, 1.0)):
            axes.add_patch(
                Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=edge, linewidth=line)
            )
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    if cell.found:
        frame = Rectangle(
            (0, 0), 1, 1, transform=axes.transAxes, fill=False, edgecolor=BLUE, linewidth=2.4
        )
        # Half of the line lies outside of the axes.
        frame.set_clip_on(True)
        axes.add_patch(frame)


def outline(axes: Axes, mask: np.ndarray) -> None:
    """The border of a mask, bool [H, W], in white on black, which is seen on every colour."""
    height, width = mask.shape
    padded = np.pad(mask.astype(float), 1)
    x, y = np.arange(width + 2) - 1, np.arange(height + 2) - 1
    for colour, line in (("black", 1.8), ("white", 0.8)):
        axes.contour(x, y, padded, [0.5], colors=colour, linewidths=line)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def wrapped(texts: Sequence[str], width: float) -> list[str]:
    """The texts in lines that fit into `width` inches."""
    room = max(4, int(width / CHARACTER))
    return [
        "\n".join(line for part in text.split("\n") for line in textwrap.wrap(part, room))
        for text in texts
    ]


def lines_of(texts: Sequence[str]) -> int:
    """The largest number of lines."""
    return max((text.count("\n") + 1 for text in texts if text), default=0)


def _text(
    figure: Figure, x: float, y: float, text: str, across: str, along: str, size: float
) -> None:
    """A text at inches from the lower left corner."""
    width, height = figure.get_size_inches()
    figure.text(x / width, y / height, text, ha=across, va=along, fontsize=size, linespacing=1.05)
