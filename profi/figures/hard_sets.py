"""Figures 15 and 16: scenes crowded with the prompt's kind, and masks of two parts."""

from __future__ import annotations

from profi.figures.context import FigureContext
from profi.figures.drawing import Drawing, Pick
from profi.figures.grids import compared, counts, gained
from profi.figures.layout import FRAMES
from profi.figures.pool import Pool
from profi.metrics.functional import bounding_box, crop, label_found, parts_of
from profi.reports.names import RowKey

EXAMPLES = 6
#: What is known of a data set's scenes.
CROWDED = {"mini_crowded": "Scenes that show several objects of the prompt's kind outside the mask"}


def figure_15(context: FigureContext) -> Drawing:
    """Copies of the target object stand outside the mask."""
    pool = context.pool(context.of_one_model("base", "profi"))
    base, ours = pool.rows
    won = gained(pool, base, ours)
    chosen = context.choose(won, pool.prompt, EXAMPLES, pool.picks)
    rows = {"base": base, "ProFI": ours}
    return Drawing(
        compared(pool, chosen, rows),
        f"{CROWDED.get(context.config.data.name, 'Scenes of the data below')}: input, base and the "
        f"full method from the same noise. {FRAMES}",
        context.rule(
            f"Among the {len(pool.picks)} paintings those in which the detector finds the label "
            f"with the full method and not with base ({len(won)}; the reverse holds for "
            f"{len(gained(pool, ours, base))})."
        ),
        chosen,
        counts(pool, rows),
    )


def figure_16(context: FigureContext) -> Drawing:
    """One mask of two parts, each of which is to hold an object."""
    pool = context.pool(context.of_one_model("base", "profi"))
    base, ours = pool.rows
    rows = {"base": base, "ProFI": ours}
    filled = {name: filled_parts(context, pool, row) for name, row in rows.items()}
    apart = list(filled["ProFI"])
    full = [pick for pick in apart if all(filled["ProFI"][pick])]
    chosen = context.choose(full, pool.prompt, EXAMPLES, apart)
    shares = {
        f"label found in both parts, {name}": f"{sum(map(all, found.values()))} of {len(apart)}"
        for name, found in filled.items()
    }
    return Drawing(
        compared(pool, chosen, rows, framed=False),
        "Masks of two parts with one prompt: input, base and the full method from the same noise.",
        context.rule(
            f"Of the {len(pool.picks)} paintings {len(apart)} have a mask of two separate parts "
            "and a prompt that the detector knows; of these the ones in which the detector finds "
            f"the label in the box of each part in the full method's painting ({len(full)})."
        ),
        chosen,
        shares,
    )


def filled_parts(context: FigureContext, pool: Pool, row: RowKey) -> dict[Pick, list[bool]]:
    """Of every painting whose mask has two parts: whether the label is found in each of them.

    Without masks whose parts touch, and prompts that the detector does not know.
    """
    threshold = context.config.metric.accuracy.threshold
    detector, found = context.detector, {}
    for pick, image in pool.pictures(row, pool.picks).items():
        parts = parts_of(pool.mask(pick, image.shape[:2]))
        category = detector.categories.get(pool.prompt(pick))
        if len(parts) != 2 or category is None:
            continue
        detections = detector.detect([crop(image, bounding_box(part)) for part in parts])
        found[pick] = [label_found(one, category, threshold) == 100.0 for one in detections]
    return found
