"""Pictures side by side, drawn by matplotlib without a display and without its global state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion


@dataclass(frozen=True, eq=False)
class StripRow:
    """One triplet of a strip: its prompt and uint8 [H, W, 3] pictures by column title."""

    prompt: str
    pictures: dict[str, np.ndarray]


def outlined(
    image: np.ndarray,
    mask: np.ndarray,
    colour: tuple[int, int, int] = (255, 45, 85),
    width: int = 2,
) -> np.ndarray:
    """A copy of `image` (uint8 [H, W, 3]) with the border of `mask` (bool [H, W]) drawn on it.

    Half of the line, `width` pixels, lies inside the mask and half outside it.
    """
    inner = binary_erosion(mask, iterations=max(1, width // 2), border_value=1)
    outer = mask if width < 2 else binary_dilation(mask, iterations=width // 2)
    result = image.copy()
    result[outer & ~inner] = colour
    return result


def png_bytes(image: np.ndarray) -> bytes:
    """`image` (uint8 [H, W, 3]) as a lossless PNG."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def thumbnail(image: np.ndarray, side: int = 320) -> bytes:
    """`image` (uint8 [H, W, 3]) at most `side` pixels long: a JPEG.

    One that is not larger stays as it is, a lossless PNG.
    """
    if max(image.shape[:2]) <= side:
        return png_bytes(image)
    small = Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    small.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def comparison_strip(rows: Sequence[StripRow], path: Path, *, inches: float = 2.0) -> None:
    """Write a grid, a triplet per row and a picture per column (input, mask, base, ProFI).

    Args:
        rows: all with the same column titles, in the order to show them.
        path: of the picture; its suffix chooses the format.
        inches: side of one picture; 150 pixels each.

    Raises:
        ValueError: no rows, or rows of different columns.
    """
    if not rows:
        raise ValueError("a strip needs at least one row")
    titles = list(rows[0].pictures)
    if any(list(row.pictures) != titles for row in rows):
        raise ValueError(f"every row of a strip needs the columns {titles}")
    figure = Figure(
        figsize=(inches * len(titles), (inches + 0.12) * len(rows) + 0.25), layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for row, line in zip(rows, axes, strict=True):
        for title, axis in zip(titles, line, strict=True):
            axis.imshow(row.pictures[title], interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(row.prompt, fontsize=9)
    for title, axis in zip(titles, axes[0], strict=True):
        axis.set_title(title, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
