"""Figure 9: RASG with the objective of eq. 10 (cross entropy) and with that of eq. 13."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from profi.figures.context import FigureContext
from profi.figures.drawing import Drawing, Pick
from profi.figures.grids import input_cell
from profi.figures.layout import BLUE, RED, Cell, grid
from profi.figures.pool import Pool
from profi.metrics import Detection, Detector
from profi.metrics.functional import Box, bounding_box, crop
from profi.reports.names import RowKey

EXAMPLES = 6
#: (x0, y0, x1, y1) in pixels.
Corners = tuple[float, float, float, float]
LABELS = {"max_attention": "maximum (eq.\u00a013)", "bce": "cross entropy (eq.\u00a010)"}
#: How the object's box is found, for the caption.
OBJECT = (
    "The object's box (red) is that of the most certain detection of the label whose centre lies "
    "in the mask's box (blue), in the mask's box enlarged by half of its sides; IoU is that of the "
    "two boxes."
)


def figure_9(context: FigureContext) -> Drawing:
    """The two objectives from the same noise, with the IoU of object and mask."""
    plain = context.of_one_model("rasg_only")
    configs = {
        kind: replace(plain, rasg=replace(plain.rasg, objective=kind))  # type: ignore[arg-type]
        for kind in LABELS
    }
    pool = context.pool(*configs.values())
    rows = {kind: context.key(config) for kind, config in configs.items()}
    boxes = {kind: object_boxes(context, pool, row) for kind, row in rows.items()}
    both = [pick for pick in pool.picks if all(pick in boxes[kind] for kind in LABELS)]
    chosen = context.choose(both, pool.prompt, EXAMPLES, pool.picks)
    cells = [[input_cell(pool, pick) for pick in chosen]]
    for kind, row in rows.items():
        shown = pool.pictures(row, chosen)
        cells.append([_cell(pool, p, shown[p], boxes[kind].get(p)) for p in chosen])
    total = len(pool.picks)
    numbers = {}
    for kind, label in LABELS.items():
        values = [_iou_of(pool, pick, boxes[kind][pick]) for pick in both]
        numbers[f"{label}: object found"] = f"{len(boxes[kind])} of {total}"
        if values:
            numbers[f"{label}: mean IoU where both find it"] = (
                f"{np.mean(values):.3f} ({len(values)} paintings)"
            )
    figure = grid(
        cells,
        [pool.prompt(pick) for pick in chosen],
        ["input", *LABELS.values()],
        label=0.82,
    )
    return Drawing(
        figure,
        "RASG alone, with the objective that maximises the largest attention in the mask (eq. 13, "
        "as Attend-and-Excite does) and with the cross entropy between attention and mask (eq. "
        f"10), from the same noise. {OBJECT}",
        context.rule(
            f"Of {total} paintings of each those in which both show the object ({len(both)})."
        ),
        chosen,
        numbers,
    )


def object_boxes(context: FigureContext, pool: Pool, row: RowKey) -> dict[Pick, Corners]:
    """The box of the painted object, in pixels of the picture, where it is found."""
    threshold = context.config.metric.accuracy.threshold
    found = {}
    for pick, image in pool.pictures(row, pool.picks).items():
        triplet = pool.triplets[pick.triplet_id]
        category = context.detector.categories.get(triplet.prompt)
        mask = bounding_box(pool.mask(pick, image.shape[:2]))
        box = object_box(context.detector, image, mask, category, threshold)
        if box is not None:
            found[pick] = box
    return found


def object_box(
    detector: Detector, image: np.ndarray, mask: Box, category: int | None, threshold: float
) -> Corners | None:
    """The most certain detection of a category with its centre in the mask's box; None without.

    Args:
        detector: looks at the mask's box, enlarged by half of its sides.
        image: uint8 [H, W, 3].
        mask: the mask's bounding box.
        category: the label's id.
        threshold: a detection counts if its score is above.
    """
    view = enlarged(mask, image.shape[:2])
    (detections,) = detector.detect([crop(image, view)])
    best: tuple[float, Corners] | None = None
    for one in detections:
        box = _moved(one, view)
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        inside = mask.left <= x < mask.right and mask.top <= y < mask.bottom
        if one.category_id == category and one.score > threshold and inside:
            best = max(best or (0.0, box), (one.score, box))
    return None if best is None else best[1]


def enlarged(box: Box, size: Sequence[int]) -> Box:
    """The box with half of its height and width on every side, within the picture."""
    down, right = (box.bottom - box.top) // 2, (box.right - box.left) // 2
    return Box(
        max(0, box.top - down),
        max(0, box.left - right),
        min(int(size[0]), box.bottom + down),
        min(int(size[1]), box.right + right),
    )


def iou(one: Corners, two: Corners) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1), in [0, 1]."""
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    common = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, two))
    return common / (areas - common) if areas > common else 0.0


def corners(box: Box) -> Corners:
    """A box in pixels as (x0, y0, x1, y1)."""
    return float(box.left), float(box.top), float(box.right), float(box.bottom)


def _moved(detection: Detection, view: Box) -> Corners:
    x0, y0, x1, y1 = detection.box
    return x0 + view.left, y0 + view.top, x1 + view.left, y1 + view.top


def _iou_of(pool: Pool, pick: Pick, box: Corners) -> float:
    size = pool.given(pick).shape[:2]
    return iou(box, corners(bounding_box(pool.mask(pick, size))))


def _cell(pool: Pool, pick: Pick, picture: np.ndarray, box: Corners | None) -> Cell:
    mask = corners(bounding_box(pool.mask(pick, picture.shape[:2])))
    if box is None:
        return Cell(picture, note="not found", boxes=[(mask, BLUE)])
    return Cell(picture, note=f"IoU {iou(box, mask):.2f}", boxes=[(mask, BLUE), (box, RED)])
