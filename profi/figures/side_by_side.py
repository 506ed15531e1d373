"""Figures 5, 18 and 19: all methods side by side; 6 and 7: the base and one method alone."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from profi.figures.context import FigureContext
from profi.figures.drawing import Drawing, Pick
from profi.figures.grids import compared, counts, gained
from profi.figures.layout import FRAMES
from profi.figures.neglect import BACKGROUND, DEFINITIONS, NEARBY, kinds
from profi.figures.pool import Pool
from profi.reports.names import RowKey, row_labels
from profi.types import UserError

EXAMPLES = 7
EXAMPLES_OF_ABLATION = 6
CAPTION = (
    "Inpainting methods side by side. The pictures of a column have the same input, prompt and "
    f"seed. {FRAMES}"
)


def figure_5(context: FigureContext) -> Drawing:
    """Examples of both ways in which the base neglects the prompt, and the methods' answers."""
    pool, base, ours = _painted(context)
    kind = kinds(context, pool, base)
    won = gained(pool, base, ours)
    count = context.config.figure.examples or EXAMPLES
    groups = {
        name: context.in_order([p for p in won if kind[p] == name], pool.prompt)
        for name in (BACKGROUND, NEARBY)
    }
    # One of each in turn, as in the paper, until a kind has no more.
    chosen: list[Pick] = []
    waiting = {name: list(picks) for name, picks in groups.items()}
    while len(chosen) < count and any(waiting.values()):
        for picks in waiting.values():
            chosen += [picks.pop(0)] if picks and len(chosen) < count else []
    chosen = context.choose(chosen, pool.prompt, count, pool.picks, ordered=True)
    text = ", ".join(f"{len(picks)} of {name}" for name, picks in groups.items())
    numbers = counts(pool, _rows(pool)) | {
        f"base, {name}": f"{sum(k == name for k in kind.values())} of {len(kind)}"
        for name in (BACKGROUND, NEARBY)
    }
    return Drawing(
        _grid(pool, chosen),
        f"{CAPTION} {DEFINITIONS}",
        context.rule(
            f"{_won(pool, won, base, ours)} Of these {text}: one of each in turn.",
        ),
        chosen,
        numbers,
    )


def figure_6(context: FigureContext) -> Drawing:
    """Visual ablation of PAIntA."""
    return _ablation(context, "painta_only", "only PAIntA")


def figure_7(context: FigureContext) -> Drawing:
    """Visual ablation of RASG."""
    return _ablation(context, "rasg_only", "only RASG")


def figure_18(context: FigureContext) -> Drawing:
    """Examples in which the full method finds the object and its base does not."""
    pool, base, ours = _painted(context)
    won = gained(pool, base, ours)
    chosen = context.choose(won, pool.prompt, EXAMPLES, pool.picks)
    return Drawing(
        _grid(pool, chosen),
        CAPTION,
        context.rule(_won(pool, won, base, ours)),
        chosen,
        counts(pool, _rows(pool)),
    )


def figure_19(context: FigureContext) -> Drawing:
    """Examples drawn from all triplets, whatever came of them."""
    pool, _, _ = _painted(context)
    chosen = context.choose(pool.picks, pool.prompt, EXAMPLES, pool.picks)
    return Drawing(
        _grid(pool, chosen),
        CAPTION,
        context.rule(f"All {len(pool.picks)} paintings, whatever their scores."),
        chosen,
        counts(pool, _rows(pool)),
    )


def _ablation(context: FigureContext, ablation: str, label: str) -> Drawing:
    pool = context.pool(context.of_one_model("base", ablation))
    base, ours = pool.rows
    candidates = gained(pool, base, ours)
    chosen = context.choose(candidates, pool.prompt, EXAMPLES_OF_ABLATION, pool.picks)
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


def _painted(context: FigureContext) -> tuple[Pool, RowKey, RowKey]:
    """All rows, the last full method and its base."""
    pool = context.pool(context.config)
    full = [row for row in pool.rows if row.ablation == "profi"]
    for ours in reversed(full):
        for base in pool.rows:
            if base.model == ours.model and base.ablation == "base":
                return pool, base, ours
    raise UserError(
        f"figure {context.name} compares profi with its base: set ablations=[base,profi] and a "
        "model that has both, such as model=mini"
    )


def _won(pool: Pool, won: list[Pick], base: RowKey, ours: RowKey) -> str:
    return (
        f"Among the {len(pool.picks)} paintings those in which the detector finds the label in the "
        f"full method's painting and not in that of its base ({len(won)}; the reverse holds for "
        f"{len(gained(pool, ours, base))}), whatever the other methods paint."
    )


def _rows(pool: Pool) -> Mapping[str, RowKey]:
    return {label: row for row, label in row_labels(pool.rows).items()}


def _grid(pool: Pool, chosen: list[Pick]) -> Figure:
    return compared(pool, chosen, _rows(pool))
