"""Figure 3: self-attention similarity maps without and with PAIntA (app. B, eq. 12)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from profi.figures.context import FigureContext
from profi.figures.drawing import Drawing, Pick
from profi.figures.grids import counts, gained, input_cell
from profi.figures.layout import FRAMES, Cell, grid
from profi.figures.neglect import BACKGROUND, DEFINITIONS, NEARBY, kinds
from profi.figures.pool import Pool
from profi.fitting import bytes_of, contents, unfit
from profi.harness.plan import Plan
from profi.method.inpainting import StableInpainting
from profi.method.level_masks import mask_pyramid
from profi.method.similarity_maps import SimilarityMaps
from profi.reports.names import RowKey
from profi.types import Triplet

#: Rows of each kind.
EXAMPLES = 3
#: The down-factors of the latents at which PAIntA works, and their names in the paper.
LEVELS: Mapping[int, str] = {2: "H/16", 4: "H/32"}


@dataclass(frozen=True, eq=False)
class Observed:
    """A painting, uint8 [H, W, 3], and its maps of eq. 12 per down-factor, float [H, W]."""

    picture: np.ndarray
    maps: Mapping[int, np.ndarray]


def figure_3(context: FigureContext) -> Drawing:
    """Rows of nearby-object and of background dominance; maps of both levels."""
    config = context.of_one_model("base", "painta_only")
    pool = context.pool(config)
    base, painta = pool.rows
    kind = kinds(context, pool, base)
    mended = set(gained(pool, base, painta))
    asked = context.config.figure.examples
    chosen: list[Pick] = []
    for name in (NEARBY, BACKGROUND):
        # Those that PAIntA mends come first.
        for better in (True, False):
            some = [p for p in pool.picks if kind[p] == name and (p in mended) == better]
            count = sum(kind[p] == name for p in chosen)
            chosen += context.in_order(some, pool.prompt)[: (asked or EXAMPLES) - count]
    chosen = context.choose(chosen, pool.prompt, 2 * (asked or EXAMPLES), pool.picks, ordered=True)
    seen: dict[tuple[str, Pick], Observed] = {}
    inpainters = context.inpainters(config)
    for run in context.runs(config):
        of_seed = {p.triplet_id: p for p in chosen if p.seed == run.seed}
        triplets = [pool.triplets[name] for name in of_seed]
        painted = observed(inpainters[run.method.name], run.plan, triplets)
        seen |= {(run.method.name, of_seed[name]): one for name, one in painted.items()}
    cells = [_row(pool, pick, seen, [base, painta]) for pick in chosen]
    maps = [f"map at {name}" for name in LEVELS.values()]
    columns = ["input", "without PAIntA", *maps, "with PAIntA", *maps]
    labels = [f"{pool.prompt(p)} ({kind[p].partition(' ')[0]})" for p in chosen]
    colormap = context.config.figure.colormap
    figure = grid(cells, columns, labels, label=0.78, colormap=colormap, after=(0, 3))
    total = len(pool.picks)
    found = {name: sum(k == name for k in kind.values()) for name in (NEARBY, BACKGROUND)}
    return Drawing(
        figure,
        "Self-attention similarity maps (eq. 12: the logits, averaged over the masked pixels, the "
        "heads, the layers of a level, and the steps; bicubic to the picture's size) of "
        "generations without and with PAIntA from the same noise. The two maps of a level in a row "
        f"share one scale of colours ({colormap}, low to high); the outline is the mask. "
        f"{DEFINITIONS} {FRAMES}",
        context.rule(
            f"Of the {total} paintings of base, {found[NEARBY]} show nearby-object dominance and "
            f"{found[BACKGROUND]} background dominance; up to {asked or EXAMPLES} of each, first "
            f"those in which the detector finds the label with PAIntA ({len(mended)} in all)."
        ),
        chosen,
        counts(pool, {"base": base, "only PAIntA": painta})
        | {f"base, {name}": f"{count} of {total}" for name, count in found.items()},
    )


def observed(row: StableInpainting, plan: Plan, triplets: Sequence[Triplet]) -> dict[str, Observed]:
    """Paint triplets by a run's plan and look at their self-attention; by triplet."""
    found = {}
    for batch in plan.batches(triplets):
        fitted = [plan.fitted(triplet) for triplet in batch]
        masks = torch.stack([one.mask for one in fitted])
        factor = row.backbone.latent_factor
        maps = SimilarityMaps(mask_pyramid(masks, factor, tuple(LEVELS), "nearest").levels)
        images = row(
            torch.stack([one.image for one in fitted]),
            masks,
            [triplet.prompt for triplet in batch],
            [plan.noise_seed(triplet) for triplet in batch],
            contents=contents(fitted, plan.evaluation.dilation),
            observer=maps,
        )
        size = (int(masks.shape[1]), int(masks.shape[2]))
        levels = {level: enlarged(one, size) for level, one in maps.maps().items()}
        for i, (triplet, one) in enumerate(zip(batch, fitted, strict=True)):
            pixels = bytes_of(unfit(images[i], one), plan.evaluation.bytes)
            found[triplet.triplet_id] = Observed(
                pixels.permute(1, 2, 0).numpy(),
                {level: unfit(all_maps[i], one).numpy() for level, all_maps in levels.items()},
            )
    return found


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps [B, h, w] at a picture's size (height, width), bicubic (app. B)."""
    return functional.interpolate(maps[:, None].cpu(), size=size, mode="bicubic")[:, 0]


def _row(
    pool: Pool, pick: Pick, seen: Mapping[tuple[str, Pick], Observed], rows: Sequence[RowKey]
) -> list[Cell]:
    """A row of the figure; the maps of a level share their scale."""
    found = {row: seen[row.ablation, pick] for row in rows}
    limits = {}
    for level in LEVELS:
        both = np.stack([one.maps[level] for one in found.values()])
        limits[level] = float(both.min()), float(both.max())
    cells = [input_cell(pool, pick)]
    for row, one in found.items():
        mask = pool.mask(pick, one.picture.shape[:2])
        cells.append(Cell(one.picture, pool.found(row, pick)))
        cells += [Cell(one.maps[level], limits=limits[level], mask=mask) for level in LEVELS]
    return cells
