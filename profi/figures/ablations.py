"""Figures 6 and 7: the base and one of the two methods alone, from the same noise."""

from __future__ import annotations

from profi.figures.context import FigureContext
from profi.figures.drawing import Drawing
from profi.figures.grids import compared, counts, gained
from profi.figures.layout import FRAMES

EXAMPLES = 6


def figure_6(context: FigureContext) -> Drawing:
    """Visual ablation of PAIntA."""
    return _ablation(context, "painta_only", "only PAIntA")


def figure_7(context: FigureContext) -> Drawing:
    """Visual ablation of RASG."""
    return _ablation(context, "rasg_only", "only RASG")


def _ablation(context: FigureContext, ablation: str, label: str) -> Drawing:
    pool = context.pool(context.of_one_model("base", ablation))
    base, ours = pool.rows
    candidates = gained(pool, base, ours)
    chosen = context.choose(candidates, pool.prompt, EXAMPLES, pool.picks)
    lost = gained(pool, ours, base)
    figure = compared(pool, chosen, {"base": base, label: ours})
    return Drawing(
        figure,
        f"Visual ablation: input, base, and {label}. The pictures of a column start from the same "
        f"noise. {FRAMES}",
        context.rule(
            f"Among the {len(pool.picks)} paintings those in which the detector finds the label "
            f"with {label} and not with base ({len(candidates)}; the reverse holds for "
            f"{len(lost)})."
        ),
        chosen,
        counts(pool, {"base": base, label: ours}),
    )
