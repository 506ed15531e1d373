"""Generation: triplets -> painted images in the generations store."""

from __future__ import annotations

import io
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from profi.inpainters.base import Inpainter
from profi.inpainters.images import Fitted, unfit
from profi.runners.memory import FAILURES, BatchLimit, explained, work_through
from profi.runners.plan import Plan
from profi.runners.progress import Meter
from profi.runners.provenance import APART, APART_SIZES, SEPARATOR, merged
from profi.runners.spec import RunFolder
from profi.stores.generations import read_generations_part, write_generations
from profi.stores.journal import quarantine
from profi.stores.parts import part_facts
from profi.types import Generation, Triplet, UserError, sample_seed

log = logging.getLogger(__name__)

#: Where one picture by itself does not fit.
SMALLER_MODEL = "set model.long_side to less, or model.dtype=float16"
#: By (height, width) of the padded picture, how many are painted at once.
Limits = defaultdict[tuple[int, ...], BatchLimit]
Loaded = tuple[Triplet, Fitted]


@dataclass(frozen=True)
class Tally:
    """How many samples were painted now, were there before, and failed."""

    painted: int
    kept: int
    failed: int


def generate(
    run: RunFolder,
    inpainter: Inpainter,
    triplets: Sequence[Triplet],
    plan: Plan,
    device: torch.device,
    meter: Meter,
    facts: Mapping[str, str] | None = None,
) -> Tally:
    """Paint what is missing of this shard's parts.

    A batch that does not fit into the memory is painted in halves, and so are the later ones of
    such pictures; one that fails otherwise is painted one by one. A sample that fails is noted in
    the quarantine with its traceback and left out; a later start tries it again, its whole batch
    painted anew (pictures that are there are replaced only where that succeeds for all of them).
    `seed` of a Generation is the run's seed; the sample's own is `sample_seed(seed, triplet_id)`.
    `facts` (see `provenance.part_facts_of`) are noted in every part, and which samples were painted
    without their fixed company, which costs them the last bits, and how many at once.

    Raises:
        UserError: every sample failed, or it is the machine's fault.
    """
    painted = kept_before = failed = 0
    limits: Limits = defaultdict(lambda: BatchLimit(plan.batch_size))
    for index, part in plan.share(triplets):
        kept = _kept(run, index, part)
        if len(kept) == len(part):
            kept_before += len(part)
            meter.skip(len(part))
            continue
        fresh: dict[str, Generation] = {}
        noted = dict(part_facts(run.generations, index)) if kept else {}
        apart = set(noted.pop(APART, "").split(SEPARATOR))
        sizes = set(noted.pop(APART_SIZES, "").split(SEPARATOR)) - {""}
        for batch in plan.batches(part):
            # All or nothing: a batch with a gap is painted as a whole, with its fixed company.
            if all(triplet.triplet_id in kept for triplet in batch):
                continue
            items, used = _paint(run, inpainter, batch, plan, limits, device, meter)
            new = {item.triplet_id: item for item in items}
            old = {t.triplet_id for t in batch if t.triplet_id in kept}
            # What is there goes only when all of it is there again: a retry that fails, wholly or
            # in part, fills gaps at most.
            if old <= new.keys():
                kept = {name: item for name, item in kept.items() if name not in old}
            else:
                new = {name: item for name, item in new.items() if name not in old}
            fresh |= new
            if used == {len(batch)}:
                apart -= new.keys()
            elif new:
                apart |= new.keys()
                sizes |= {str(size) for size in used}
        meter.skip(len(kept))
        found = kept | fresh
        rows = [found[t.triplet_id] for t in part if t.triplet_id in found]
        if fresh or not kept:
            told = merged([noted, facts or {}] if kept else [facts or {}])
            apart &= found.keys()
            if apart:
                told[APART] = SEPARATOR.join(sorted(apart))
                told[APART_SIZES] = SEPARATOR.join(sorted(sizes, key=int))
            write_generations(run.generations, index, rows, told)
        painted, kept_before = painted + len(fresh), kept_before + len(kept)
        failed += len(part) - len(rows)
        meter.tell(f"part {index} written")
    if failed and not painted and not kept_before:
        raise UserError(f"all {failed} samples failed: see the reasons in {run.quarantine}")
    return Tally(painted, kept_before, failed)


def _kept(run: RunFolder, index: int, part: Sequence[Triplet]) -> dict[str, Generation]:
    """What is there of a part, by triplet."""
    there = read_generations_part(run.generations, index) or []
    wanted = {triplet.triplet_id for triplet in part}
    return {item.triplet_id: item for item in there if item.triplet_id in wanted}


def _paint(
    run: RunFolder,
    inpainter: Inpainter,
    batch: Sequence[Triplet],
    plan: Plan,
    limits: Limits,
    device: torch.device,
    meter: Meter,
) -> tuple[list[Generation], set[int]]:
    """One fixed batch: what was painted of it, and how many at once."""
    loaded: list[Loaded] = []
    for triplet in batch:
        try:
            loaded.append((triplet, plan.fitted(triplet)))
        except FAILURES as error:
            _set_aside(run, triplet, "load", error)
    if not loaded:
        return [], set()

    def work(some: Sequence[Loaded]) -> list[Generation]:
        return _paint_together(inpainter, some, plan, device, meter.advance)

    def give_up(item: Loaded, error: Exception) -> None:
        _set_aside(run, item[0], "generate", explained(error, SMALLER_MODEL))

    limit = limits[tuple(loaded[0][1].mask.shape)]
    return work_through(loaded, work, limit, give_up, "painting")


def _paint_together(
    inpainter: Inpainter,
    loaded: Sequence[Loaded],
    plan: Plan,
    device: torch.device,
    advance: Callable[[float], None],
) -> list[Generation]:
    told = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told
        advance(len(loaded) * done / total - told)
        told = len(loaded) * done / total

    _reset_peak_memory(device)
    start = time.perf_counter()
    try:
        images = inpainter(
            torch.stack([fitted.image for _, fitted in loaded]),
            torch.stack([fitted.mask for _, fitted in loaded]),
            [triplet.prompt for triplet, _ in loaded],
            [sample_seed(plan.seed, triplet.triplet_id) for triplet, _ in loaded],
            progress,
        )
        if not bool(torch.isfinite(images).all()):
            raise ValueError("the painted image is not finite")
    except FAILURES:
        # It is not done after all.
        advance(-told)
        raise
    seconds = (time.perf_counter() - start) / len(loaded)
    advance(len(loaded) - told)
    peak = _peak_memory(device)
    return [
        Generation(triplet.triplet_id, plan.seed, png(unfit(image, fitted)), seconds, peak)
        for (triplet, fitted), image in zip(loaded, images, strict=True)
    ]


def png(image: torch.Tensor) -> bytes:
    """Lossless PNG of an RGB image [3, H, W] in [0, 1], rounded to 8 bits."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return png_of(np.ascontiguousarray(pixels))


def png_of(pixels: np.ndarray) -> bytes:
    """Lossless PNG of uint8 [H, W, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _set_aside(run: RunFolder, triplet: Triplet, stage: str, error: Exception) -> None:
    quarantine(run.quarantine, triplet.triplet_id, stage, error)
    log.warning("%s set aside (%s): %s", triplet.triplet_id, stage, error)


def _reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_memory(device: torch.device) -> float:
    """Bytes; NaN where the device does not report a peak."""
    return float(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else math.nan
