"""Generation: triplets -> painted images in the generations store.

The unit of work is the part, a fixed slice of the manifest; within it the batches are fixed too:
triplets of one padded size, in the manifest's order, `batch_size` at a time. So what is painted
together depends on the manifest and the settings alone, not on shards, restarts or order.
"""

from __future__ import annotations

import io
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from profi.config import Config
from profi.data.images import load_image
from profi.data.masks import triplet_mask
from profi.data.sample import parts
from profi.inpainters.base import Inpainter
from profi.inpainters.images import Fitted, fit, unfit
from profi.runners.build_data import image_root
from profi.runners.progress import Meter
from profi.runners.provenance import APART, SEPARATOR, merged
from profi.runners.spec import RunFolder
from profi.stores.generations import read_generations_part, write_generations
from profi.stores.journal import quarantine
from profi.stores.parts import part_facts
from profi.types import Generation, Triplet, UserError, sample_seed

log = logging.getLogger(__name__)

#: What one sample can be at fault for: bad files, bad numbers, memory that does not suffice. Errors
#: of the program (a TypeError, a missing attribute) would fail every sample and end the run.
SAMPLE_ERRORS = (ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, ValueError)
FAILURES = (*SAMPLE_ERRORS, UserError)


@dataclass(frozen=True)
class Plan:
    """What decides a run's batches and pictures, beside the inpainter.

    `shard` is (index from 0, count).
    """

    root: Path
    seed: int
    long_side: int
    pad_multiple: int
    batch_size: int
    part_size: int
    shard: tuple[int, int] = (0, 1)

    @classmethod
    def of(cls, config: Config, seed: int, shard: tuple[int, int]) -> Plan:
        """From the settings."""
        model = config.model
        return cls(
            root=image_root(config.data),
            seed=seed,
            long_side=model.long_side,
            pad_multiple=model.pad_multiple,
            batch_size=model.batch_size,
            part_size=config.part_size,
            shard=shard,
        )

    def fitted(self, triplet: Triplet) -> Fitted:
        """A triplet's image and mask at the model's size."""
        image = torch.from_numpy(load_image(self.root, triplet)).permute(2, 0, 1) / 255.0
        return fit(
            image, torch.from_numpy(triplet_mask(triplet)), self.long_side, self.pad_multiple
        )

    def padded_size(self, triplet: Triplet) -> tuple[int, int]:
        """(height, width) of `fitted`, without reading the image."""
        size = (triplet.height, triplet.width)
        image = torch.empty(3, *size, device="meta")
        mask = torch.empty(size, dtype=torch.bool, device="meta")
        height, width = fit(image, mask, self.long_side, self.pad_multiple).mask.shape
        return height, width

    def batches(self, part: Sequence[Triplet]) -> list[list[Triplet]]:
        """The fixed batches of a part."""
        groups: dict[tuple[int, int], list[Triplet]] = {}
        for triplet in part:
            groups.setdefault(self.padded_size(triplet), []).append(triplet)
        return [
            group[start : start + self.batch_size]
            for group in groups.values()
            for start in range(0, len(group), self.batch_size)
        ]

    def share(self, triplets: Sequence[Triplet]) -> list[tuple[int, tuple[Triplet, ...]]]:
        """This shard's parts with their numbers: i, i + n, i + 2n, ..."""
        index, count = self.shard
        return list(enumerate(parts(triplets, self.part_size)))[index::count]


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

    A sample that fails is noted in the quarantine with its traceback and left out; a later start
    tries it again, its whole batch painted anew (pictures that are there are replaced only where
    that succeeds for all of them). `seed` of a Generation is the run's seed; the
    sample's own is `sample_seed(seed, triplet_id)`. `facts` (see `provenance.part_facts_of`) are
    noted in every part, and which samples were painted without their fixed company.

    Raises:
        UserError: every sample failed.
    """
    painted = kept_before = failed = 0
    for index, part in plan.share(triplets):
        kept = _kept(run, index, part)
        if len(kept) == len(part):
            kept_before += len(part)
            meter.skip(len(part))
            continue
        fresh: dict[str, Generation] = {}
        noted = dict(part_facts(run.generations, index)) if kept else {}
        apart = set(noted.pop(APART, "").split(SEPARATOR))
        for batch in plan.batches(part):
            # All or nothing: a batch with a gap is painted as a whole, with its fixed company.
            if all(triplet.triplet_id in kept for triplet in batch):
                continue
            items, together = _paint(run, inpainter, batch, plan, device, meter)
            new = {item.triplet_id: item for item in items}
            old = {t.triplet_id for t in batch if t.triplet_id in kept}
            # What is there goes only when all of it is there again: a retry that fails, wholly or
            # in part, fills gaps at most.
            if old <= new.keys():
                kept = {name: item for name, item in kept.items() if name not in old}
            else:
                new = {name: item for name, item in new.items() if name not in old}
            fresh |= new
            apart = apart - new.keys() if together else apart | new.keys()
        meter.skip(len(kept))
        found = kept | fresh
        rows = [found[t.triplet_id] for t in part if t.triplet_id in found]
        if fresh or not kept:
            told = merged([noted, facts or {}] if kept else [facts or {}])
            apart &= found.keys()
            if apart:
                told[APART] = SEPARATOR.join(sorted(apart))
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
    device: torch.device,
    meter: Meter,
) -> tuple[list[Generation], bool]:
    """One batch; where it fails as a whole, its samples one by one.

    Returns:
        What was painted, and whether that was the whole batch together.
    """
    loaded: list[tuple[Triplet, Fitted]] = []
    for triplet in batch:
        try:
            loaded.append((triplet, plan.fitted(triplet)))
        except FAILURES as error:
            _set_aside(run, triplet, "load", error)
    if not loaded:
        return [], False
    try:
        done = _paint_together(inpainter, loaded, plan, device, meter.advance)
        return done, len(loaded) == len(batch)
    except FAILURES as error:
        if len(loaded) == 1:
            _set_aside(run, loaded[0][0], "generate", error)
            return [], False
        log.warning("a batch of %d failed (%s): painting them one by one", len(loaded), error)
    done = []
    for pair in loaded:
        _free_memory(device)
        try:
            done += _paint_together(inpainter, [pair], plan, device, meter.advance)
        except FAILURES as error:
            _set_aside(run, pair[0], "generate", error)
    return done, False


def _paint_together(
    inpainter: Inpainter,
    loaded: Sequence[tuple[Triplet, Fitted]],
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
    images = inpainter(
        torch.stack([fitted.image for _, fitted in loaded]),
        torch.stack([fitted.mask for _, fitted in loaded]),
        [triplet.prompt for triplet, _ in loaded],
        [sample_seed(plan.seed, triplet.triplet_id) for triplet, _ in loaded],
        progress,
    )
    seconds = (time.perf_counter() - start) / len(loaded)
    if not bool(torch.isfinite(images).all()):
        raise ValueError("the painted image is not finite")
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


def _free_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_memory(device: torch.device) -> float:
    """Bytes; NaN where the device does not report a peak."""
    return float(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else math.nan
