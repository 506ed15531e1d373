"""Figures 13, 14, 20 and 21: high resolution step by step, and compared (appendix E)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

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
from profi.highres import Enlarging, Measures, Upscaler, Way, compare, load_upscaler, measures
from profi.highres.enlarging import array
from profi.highres.low import LowPainter
from profi.highres.measures import distance_of
from profi.metrics.functional import bounding_box, crop, label_found
from profi.models.devices import resolve_device
from profi.settings.highres import HIGHRES
from profi.types import Triplet, UserError, digest

#: The columns of a comparison: the ways of `profi.highres.compare` and their labels.
LABELS: Mapping[Way, str] = {
    "bicubic": "bicubic",
    "free": "upscaler alone",
    "eq16": "with eq.\u00a016",
}
#: A detail's side, as a share of the picture's long side.
DETAIL = 0.25
#: Small paintings among which those with their object are looked for.
TRIED = 24


@dataclass(frozen=True, eq=False)
class Worked:
    """A triplet, painted small and ready to be enlarged; `found`: whether the detector finds the
    label in the small painting, None without a detector that knows it."""

    pick: Pick
    triplet: Triplet
    enlarging: Enlarging
    noise_seed: int
    found: bool | None


def figure_13(context: FigureContext) -> Drawing:
    """The low result, the steps of the upscaler, and the last blend."""
    rule, works, upscaler = _worked(context, 1)
    count = works[0].enlarging.settings.num_inference_steps
    shown = sorted({1, max(1, count // 4), max(1, count // 2), count})
    cells, rows = [], []
    for work in works:
        one = work.enlarging
        steps: dict[int, Tensor] = {}

        def look(step: int, preview: Callable[[], Tensor], steps: dict[int, Tensor]) -> None:
            if step in shown:
                steps[step] = preview()

        painted = one.upscaled(
            upscaler, work.triplet.prompt, work.noise_seed, partial(look, steps=steps)
        )
        given, box = holed(one.original, one.worked_mask), detail_of(one.worked_mask)
        pixels = [_pixels(one, steps[step]) for step in shown]
        result = one.finished(painted)
        cells.append([Cell(given, boxes=[(box, BLUE)]), Cell(array(one.low))])
        cells[-1] += [Cell(picture) for picture in (*pixels, result)]
        details = [given, array(one.bicubic()), *pixels, result]
        cells.append([Cell(cut(picture, box)) for picture in details])
        rows += [work.triplet.prompt, "detail"]
    columns = ["input", "painted small", *(f"step {step}" for step in shown), "result"]
    return Drawing(
        grid(cells, columns, rows, label=0.6),
        "High resolution step by step: the input with its mask, the picture that the full method "
        "paints at the low size, the upscaler's denoised picture after eq. 16 (x0_pred, decoded) "
        f"in {len(shown)} of its {count} steps, and the result of the last Poisson blend. Below, "
        f"the detail in the blue square{_detail_text()}",
        context.rule(rule),
        [work.pick for work in works],
        _sizes(works),
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


def _compared(context: FigureContext, ways: Sequence[Way], count: int) -> Drawing:
    """Whole pictures and details, a pair of rows per example."""
    metric, device = context.config.metric, context.config.per_model[0].model.device
    compares = picture_distance(metric, resolve_device("model.device", device))
    rule, works, upscaler = _worked(context, count)
    distance = None if compares is None else distance_of(compares[1], upscaler.device)
    cells, rows = [], []
    found: dict[Way, list[Measures]] = {way: [] for way in ways}
    for work in works:
        one, prompt = work.enlarging, work.triplet.prompt
        compared = compare(one, upscaler, prompt, work.noise_seed, ways)
        for each in compared:
            found[each.way].append(measures(one, each, distance))
        box = detail_of(one.worked_mask)
        pictures = [holed(one.original, one.worked_mask), *(each.picture for each in compared)]
        cells.append([Cell(picture, boxes=[(box, BLUE)]) for picture in pictures])
        cells.append([Cell(cut(picture, box)) for picture in pictures])
        rows += [prompt, "detail"]
    named = compares[0] if compares is not None else ""
    numbers = {LABELS[way]: _numbers(of, named) for way, of in found.items()}
    largest = 5.0 / (len(ways) + 1)
    return Drawing(
        grid(cells, ["input", *(LABELS[way] for way in ways)], rows, label=0.6, largest=largest),
        "Ways to enlarge one and the same painted picture, each followed by the same Poisson "
        f"blend into the original. Every second row: the detail in the blue square{_detail_text()}",
        context.rule(rule),
        [work.pick for work in works],
        numbers | _sizes(works),
    )


def _numbers(found: Sequence[Measures], distance: str) -> str:
    """The means of what exists, in words; `distance` is the name of that measure."""
    kinds = [
        ("known region", [one.known_psnr for one in found], "{:.2f} dB"),
        ("hole to the small painting", [one.faithful for one in found], "{:.2f} dB"),
        ("step across the mask's edge", [one.seam for one in found], "{:.2f} levels"),
        (f"{distance} around the hole", [one.distance for one in found], "{:.4f}"),
    ]
    said = []
    for name, values, form in kinds:
        there = [value for value in values if not math.isnan(value)]
        if there:
            of = f" ({len(there)} of them)" if len(there) < len(values) else ""
            said.append(f"{name} {form.format(np.mean(there))}{of}")
    return f"before the last blend, means of {len(found)}: {', '.join(said)}"


def _worked(context: FigureContext, count: int) -> tuple[str, list[Worked], Upscaler]:
    """The rule, and the chosen triplets, painted small by the full method; the upscaler.

    Triplets are painted in the order in which they are drawn until the detector has found the label
    in enough small paintings, TRIED at most. Without such paintings, or where the settings do not
    score the accuracy, the first ones drawn are shown.
    """
    config = context.of_one_model("profi")
    settings = config.highres if config.highres.name != "none" else HIGHRES["ours"]
    settings = replace(settings, result="worked")
    runs = {run.seed: run for run in context.runs(config)}
    first = next(iter(runs))
    (row,) = context.inpainters(config).values()
    source = upscaler_choice(config, str(row.device))
    upscaler = load_upscaler(*source)
    triplets = {t.triplet_id: t for t in context.triplets(config)}

    def prompt(pick: Pick) -> str:
        return triplets[pick.triplet_id].prompt

    def painted(pick: Pick) -> Worked:
        triplet, plan = triplets[pick.triplet_id], runs[pick.seed].plan
        seed = plan.noise_seed(triplet)
        multiple, evaluation = config.model.pad_multiple, config.evaluation
        low = LowPainter(row, triplet.prompt, seed, multiple, "decoded", evaluation)
        pixels = load_image(image_root(config.data), triplet)
        image = torch.from_numpy(pixels).permute(2, 0, 1) / 255.0
        mask = torch.from_numpy(triplet_mask(triplet))
        one = Enlarging.of(image, mask, low, config.model.long_side, settings, evaluation)
        # As the metric sees it: the picture as it was decoded.
        found = _found(context, triplet, one) if scored else None
        if settings.low == "blended":
            one = one.with_known_low()
        return Worked(pick, triplet, one, seed, found)

    chosen, scored = config.figure, "accuracy" in config.metric.metrics and not config.figure.select
    if chosen.select:
        every = [Pick(name, seed) for seed in runs for name in triplets]
        works = [painted(pick) for pick in context.choose(every, prompt, count, every)]
        rule = ""
    else:
        every = [Pick(name, first) for name in triplets]
        count = chosen.examples or count
        order = context.in_order(every, prompt)
        limit = max(TRIED, count) if scored else count
        rule, works = _first_found(map(painted, order), count, limit)
        if not works:
            raise UserError(f"figure {context.name}: there is no triplet: choose other data")
    context.painted += [runs[seed] for seed in dict.fromkeys(work.pick.seed for work in works)]
    context.facts |= {
        "weights": str(row.identity["backbone"]["weights"]),
        "upscaler": f"{source[0]} (weights {digest(dict(upscaler.weights))})",
    }
    return rule, works, upscaler


def _first_found(works: Iterable[Worked], count: int, limit: int) -> tuple[str, list[Worked]]:
    """The first `count` of `limit` that show their object, else the first; and the rule's text."""
    tried: list[Worked] = []
    for work in islice(works, limit):
        tried.append(work)
        if sum(w.found is True for w in tried) == count:
            break
    found = [work for work in tried if work.found]
    known = [work for work in tried if work.found is not None]
    if not known:
        return "The first triplets drawn.", tried[:count]
    counted = (
        f"{len(tried)} triplets drawn were painted small; the detector knows {len(known)} of their "
        f"prompts and finds {len(found)} of these"
    )
    if not found:
        return f"The first triplets drawn ({counted}).", tried[:count]
    return f"The first in whose small painting the detector finds the label ({counted}).", found


def _found(context: FigureContext, triplet: Triplet, one: Enlarging) -> bool | None:
    """Whether the detector finds the label in the mask's box; None if it does not know it."""
    category, mask = context.detector.categories.get(triplet.prompt), one.low_mask
    if category is None or not mask.any():
        return None
    (detections,) = context.detector.detect([crop(array(one.low), bounding_box(mask))])
    return label_found(detections, category, context.config.metric.accuracy.threshold) == 100.0


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


def _sizes(works: Sequence[Worked]) -> dict[str, str]:
    settings = works[0].enlarging.settings
    changes = {"result": "worked"} | settings.changes
    low = [f"{one.low.shape[2]}x{one.low.shape[1]}" for one in (w.enlarging for w in works)]
    large = [f"{one.width}x{one.height}" for one in (w.enlarging for w in works)]
    return {
        "high resolution": ", ".join([settings.name, *(f"{k}={v}" for k, v in changes.items())]),
        "painted at": ", ".join(dict.fromkeys(low)),
        "enlarged to": ", ".join(dict.fromkeys(large)),
    }
