"""Figure 17: failures of the full method, by score."""

from __future__ import annotations

import math

from profi.figures.context import FigureContext
from profi.figures.drawing import Drawing, Pick
from profi.figures.grids import input_cell
from profi.figures.layout import Cell, grid
from profi.figures.pool import Pool
from profi.reports.names import RowKey, metric_style
from profi.types import UserError

#: Examples of each kind.
EXAMPLES = 3
WORST = "clip_score", "aesthetic"
NAMED = "Paintings of the full method."
KINDS = "Failures of the full method. Left: no object. Right: it is there and looks wrong."


def figure_17(context: FigureContext) -> Drawing:
    """The lowest CLIP scores, and the lowest aesthetic scores among paintings with the object."""
    pool = context.pool(context.of_one_model("profi"))
    (row,) = pool.rows
    lacking = [name for name in WORST if name not in pool.metrics]
    if lacking:
        raise UserError(
            f"figure 17 goes by {' and '.join(WORST)}: add {', '.join(lacking)} to metric.metrics"
        )

    def lowest(metric: str, picks: list[Pick], count: int) -> list[Pick]:
        scored = [p for p in picks if not math.isnan(pool.score(metric, row, p))]
        return sorted(scored, key=lambda p: (pool.score(metric, row, p), p))[:count]

    found = [pick for pick in pool.picks if pool.found(row, pick)]
    missed = [pick for pick in pool.picks if not pool.found(row, pick)]
    count = context.config.figure.examples or EXAMPLES
    worst = lowest("clip_score", missed, count) + lowest("aesthetic", found, count)
    chosen = context.choose(worst, pool.prompt, len(worst), pool.picks, ordered=True)
    shown = pool.pictures(row, chosen)
    cells = [
        [input_cell(pool, pick) for pick in chosen],
        [Cell(shown[pick], note=_scores(pool, row, pick)) for pick in chosen],
    ]
    named = bool(context.config.figure.select)
    # A gap between the two kinds.
    after = () if named else (min(count, len(missed)) - 1,)
    prompts = [pool.prompt(pick) for pick in chosen]
    figure = grid(cells, prompts, ["input", "ProFI"], label=0.5, after=after)
    clip, aesthetic = (metric_style(name).label for name in WORST)
    return Drawing(
        figure,
        f"{NAMED if named else KINDS} Below each painting: {clip} / {aesthetic}.",
        "Named by figure.select, not by a rule."
        if named
        else f"Of the {len(missed)} of {len(pool.picks)} paintings in which the detector does not "
        f"find the label the {count} with the lowest {clip}; then of the {len(found)} others the "
        f"{count} with the lowest {aesthetic}.",
        chosen,
        {"label found": f"{len(found)} of {len(pool.picks)}"},
    )


def _scores(pool: Pool, row: RowKey, pick: Pick) -> str:
    values = []
    for name in WORST:
        value = pool.score(name, row, pick)
        values.append(f"{value:.{min(2, metric_style(name).decimals)}f}")
    return " / ".join(values)
