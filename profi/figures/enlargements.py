"""Figures 13, 14, 20 and 21: high resolution step by step, and compared (appendix E)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from profi.data.masks import triplet_mask
from profi.data.pictures import load_image
from profi.figures.context import FigureContext
from profi.figures.drawing import Drawing, Pick
from profi.figures.layout import BLUE, Cell, grid, holed
from profi.fitting import bytes_of
from profi.harness.build_data import image_root
from profi.harness.build_metrics import picture_distance
from profi.harness.enlarge import upscaler_choice
from profi.highres import Enlarging, Measures, Upscaler, compare, load_upscaler, measures
from profi.highres.enlarging import array
from profi.highres.low import LowPainter
from profi.highres.measures import distance_of
from profi.settings import Config
from profi.settings.highres import highres_of
from profi.types import Triplet

#: The columns of a comparison: the ways of `profi.highres.compare` and their labels.
LABELS: Mapping[str, str] = {
    "bicubic": "bicubic",
    "free": "upscaler alone",
    "eq16": "with eq.\u00a016",
}
#: A detail's side, as a share of the picture's long side.
DETAIL = 0.25


@dataclass(frozen=True, eq=False)
class Worked:
    """A triplet, painted small and ready to be enlarged."""

    triplet: Triplet
    seed: int
    enlarging: Enlarging

    @property
    def original(self) -> np.ndarray:
        """The picture at the worked size, uint8 [H, W, 3]."""
        return array(self.enlarging.cut(self.enlarging.large))

    @property
    def mask(self) -> np.ndarray:
        """The mask at the worked size, bool [H, W]."""
        one = self.enlarging
        return one.hole[: one.height, : one.width].numpy()


def figure_13(context: FigureContext) -> Drawing:
    """One picture: the low result, the steps of the upscaler, and the last blend."""
    chosen, rule, (work,), upscaler = _worked(context, 1, most=1)
    one, count = work.enlarging, work.enlarging.settings.num_inference_steps
    shown = sorted({1, max(1, count // 4), max(1, count // 2), count})
    steps: dict[int, np.ndarray] = {}

    def look(step: int, preview: object) -> None:
        if step in shown:
            steps[step] = _pixels(one, preview())  # type: ignore[operator]

    painted = one.upscaled(upscaler, work.triplet.prompt, work.seed, look)
    box = detail_of(work.mask)
    whole = [
        Cell(holed(work.original, work.mask), boxes=[(box, BLUE)]),
        Cell(array(one.low)),
        *(Cell(steps[step]) for step in shown),
        Cell(one.finished(painted)),
    ]
    parts = [
        Cell(cut(holed(work.original, work.mask), box)),
        Cell(cut(array(one.bicubic()), box)),
        *(Cell(cut(steps[step], box)) for step in shown),
        Cell(cut(one.finished(painted), box)),
    ]
    columns = ["input", "painted small", *(f"step {step}" for step in shown), "result"]
    return Drawing(
        grid([whole, parts], columns, [work.triplet.prompt, "detail"], label=0.6),
        "High resolution step by step: the input with its mask, the picture that the full method "
        "paints at the low size, the upscaler's denoised picture after eq. 16 (x0_pred, decoded) "
        f"in {len(shown)} of its {count} steps, and the result of the last Poisson blend. Below, "
        f"the detail in the blue square{_detail_text()}",
        context.rule(rule),
        chosen,
        _sizes(work),
    )


def figure_14(context: FigureContext) -> Drawing:
    """Three ways to enlarge, each with the same last blend."""
    return _compared(context, ("bicubic", "free", "eq16"), 2)


def figure_20(context: FigureContext) -> Drawing:
    """The upscaler alone and with eq. 16."""
    return _compared(context, ("free", "eq16"), 2)


def figure_21(context: FigureContext) -> Drawing:
    """The same for other examples."""
    return _compared(context, ("free", "eq16"), 2)


def _compared(context: FigureContext, ways: Sequence[str], count: int) -> Drawing:
    """Whole pictures and details, a pair of rows per example."""
    chosen, rule, works, upscaler = _worked(context, count)
    cells, rows = [], []
    found: dict[str, list[Measures]] = {way: [] for way in ways}
    device = str(upscaler.device)
    compares = picture_distance(context.config.metric, device)
    distance = None if compares is None else distance_of(compares[1], device)
    for work in works:
        compared = {
            one.way: one
            for one in compare(work.enlarging, upscaler, work.triplet.prompt, work.seed)
            if one.way in ways
        }
        box = detail_of(work.mask)
        given = holed(work.original, work.mask)
        pictures = [given, *(compared[way].picture for way in ways)]  # type: ignore[index]
        cells.append([Cell(one, boxes=[(box, BLUE)]) for one in pictures])
        cells.append([Cell(cut(one, box)) for one in pictures])
        rows += [work.triplet.prompt, "detail"]
        for way in ways:
            found[way].append(measures(work.enlarging, compared[way], distance))  # type: ignore[index]
    numbers = {}
    for way in ways:
        psnr, inside, seam, far = np.mean(
            [(one.known_psnr, one.faithful, one.seam, one.distance) for one in found[way]], axis=0
        )
        numbers[LABELS[way]] = (
            f"before the last blend: known region {psnr:.2f} dB, hole to the small painting "
            f"{inside:.2f} dB, step across the mask's edge {seam:.2f} levels"
            + (f", {compares[0]} around the hole {far:.4f}" if compares else "")
            + f" (means of {len(works)})"
        )
    largest = 5.0 / (len(ways) + 1)
    return Drawing(
        grid(cells, ["input", *(LABELS[way] for way in ways)], rows, label=0.6, largest=largest),
        "Ways to enlarge one and the same painted picture, each followed by the same Poisson "
        f"blend into the original. Every second row: the detail in the blue square{_detail_text()}",
        context.rule(rule),
        chosen,
        numbers | _sizes(works[0]),
    )


def _worked(
    context: FigureContext, count: int, most: int | None = None
) -> tuple[list[Pick], str, list[Worked], Upscaler]:
    """The chosen triplets, `most` at most, painted small by the full method, and the upscaler.

    With the rule by which they are chosen.
    """
    config = context.of_one_model("profi")
    (run,) = context.runs(config)[:1]
    triplets = {t.triplet_id: t for t in context.triplets(config)}
    every = [Pick(name, run.seed) for name in triplets]
    rule, fitting = _found(context, config, every)
    chosen = context.choose(fitting, lambda pick: triplets[pick.triplet_id].prompt, count, every)
    chosen = chosen[:most]
    context.painted.append(run)
    (row,) = context.inpainters(config).values()
    model = config.model
    upscaler = load_upscaler(*upscaler_choice(config, str(row.device)))
    named = "ours" if config.highres == "none" else config.highres
    settings = replace(highres_of(named), result="worked")
    works = []
    for pick in chosen:
        triplet = triplets[pick.triplet_id]
        pixels = load_image(image_root(config.data), triplet)
        image = torch.from_numpy(pixels).permute(2, 0, 1) / 255.0
        seed = run.plan.noise_seed(triplet)
        low = LowPainter(
            row, triplet.prompt, seed, model.pad_multiple, settings.low, config.evaluation
        )
        mask = torch.from_numpy(triplet_mask(triplet))
        enlarging = Enlarging.of(image, mask, low, model.long_side, settings, config.evaluation)
        works.append(Worked(triplet, seed, enlarging))
    return chosen, rule, works, upscaler


def _found(context: FigureContext, config: Config, every: list[Pick]) -> tuple[str, list[Pick]]:
    """The small paintings that show their object, and this rule's text.

    All, where none does or the settings do not score the accuracy.
    """
    rule = "All triplets of the settings."
    if "accuracy" not in config.metric.metrics or context.config.figure.select:
        return rule, every
    metric = replace(config.metric, metrics=["accuracy"])
    pool = context.pool(replace(config, metric=metric, highres="none"))
    (row,) = pool.rows
    found = [pick for pick in every if pool.score("accuracy", row, pick) == 100.0]
    if not found:
        return f"{rule} (The detector finds the label in none of their small paintings.)", every
    return (
        f"Among the {len(pool.picks)} small paintings those in which the detector finds the label "
        f"({len(found)}).",
        found,
    )


def detail_of(mask: np.ndarray) -> tuple[float, float, float, float]:
    """A square on the mask's edge, (x0, y0, x1, y1) in pixels, within the picture.

    Its side is DETAIL of the long side; its centre is the masked pixel at the edge that is nearest
    to the picture's centre, so that it shows painted and known pixels.
    """
    height, width = mask.shape
    known = np.pad(~mask, 1)
    near_known = known[:-2, 1:-1] | known[2:, 1:-1] | known[1:-1, :-2] | known[1:-1, 2:]
    edge = np.argwhere(mask & near_known)
    if not len(edge):
        edge = np.argwhere(mask)
    distance = ((edge - np.array([height, width]) / 2) ** 2).sum(axis=1)
    y, x = edge[int(distance.argmin())]
    side = min(height, width, max(1, round(DETAIL * max(height, width))))
    top = int(np.clip(y - side // 2, 0, height - side))
    left = int(np.clip(x - side // 2, 0, width - side))
    return float(left), float(top), float(left + side), float(top + side)


def cut(picture: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """The part of a picture [H, W, 3] in a box of whole pixels."""
    x0, y0, x1, y1 = map(int, box)
    return picture[y0:y1, x0:x1]


def _detail_text() -> str:
    return (
        f", a square of {DETAIL:g} of the long side around the pixel of the mask's edge that is "
        "nearest to the picture's centre."
    )


def _pixels(enlarging: Enlarging, painted: Tensor) -> np.ndarray:
    return array(bytes_of(enlarging.cut(painted), enlarging.evaluation.bytes))


def _sizes(work: Worked) -> dict[str, str]:
    low = work.enlarging.low.shape
    changes = {"result": "worked"} | work.enlarging.settings.changes
    return {
        "high resolution": ", ".join(
            [work.enlarging.settings.name, *(f"{k}={v}" for k, v in changes.items())]
        ),
        "painted at": f"{low[2]}x{low[1]}",
        "enlarged to": f"{work.enlarging.width}x{work.enlarging.height}",
    }
