"""Figure 8: vanilla guidance (eq. 6-7) at several scales s, and RASG."""

from __future__ import annotations

from dataclasses import replace

from profi.figures.context import FigureContext
from profi.figures.drawing import Drawing
from profi.figures.grids import input_cell
from profi.figures.layout import FRAMES, Cell, grid
from profi.reports.names import metric_style

EXAMPLES = 4
#: The paper's s.
SCALES = (0.0, 100.0, 1000.0, 10000.0)


def figure_8(context: FigureContext) -> Drawing:
    """Examples in rows; columns: input, base, s = 0, 100, 1000, 10000, RASG."""
    plain = context.of_one_model("base", "rasg_only")
    guided = {
        scale: replace(
            context.of_one_model("vanilla_only"),
            vanilla=replace(plain.vanilla, scale=scale),
        )
        for scale in SCALES
    }
    pool = context.pool(plain, *guided.values())
    base, rasg = pool.rows[:2]
    rows = {
        "base": base,
        **{f"s = {scale:g}": context.key(config) for scale, config in guided.items()},
        "RASG": rasg,
    }
    chosen = context.choose(pool.picks, pool.prompt, EXAMPLES, pool.picks)
    shown = {label: pool.pictures(row, chosen) for label, row in rows.items()}
    cells = [
        [
            input_cell(pool, pick),
            *(Cell(shown[label][pick], pool.found(row, pick)) for label, row in rows.items()),
        ]
        for pick in chosen
    ]
    total = len(pool.picks)
    notes = [f"found in\nall {total}:"]
    numbers = {}
    for label, row in rows.items():
        count = sum(pool.found(row, pick) for pick in pool.picks)
        notes.append(f"{count}\n({100 * count / total:.0f} %)")
        numbers[label] = f"label found in {count} of {total}"
        for metric in pool.metrics:
            if not metric_style(metric).hit_or_miss:
                style = metric_style(metric)
                mean = pool.mean(metric, row)
                numbers[label] += f", {style.label} {mean:.{style.decimals}f}"
    figure = grid(
        cells,
        ["input", *rows],
        [pool.prompt(pick) for pick in chosen],
        label=0.6,
        notes=notes,
    )
    return Drawing(
        figure,
        "Vanilla post-hoc guidance (eq. 6-7) at the scales s of the paper, and RASG (eq. 8), both "
        "with the objective of the settings; base is the model without guidance. The pictures of a "
        "row start from the same noise. Below: in how many of all paintings the detector finds the "
        f"label. {FRAMES}",
        context.rule(f"All {total} triplets, whatever their scores."),
        chosen,
        numbers,
    )
