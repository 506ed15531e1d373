"""The stage generate: paints triplets into the generations store."""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from profi.fitting import Fitted, bytes_of, contents, unfit
from profi.harness.memory import FAILURES, BatchLimit, explained, work_through
from profi.harness.part_work import Painted, PartWork
from profi.harness.plan import Plan
from profi.harness.progress import Meter
from profi.harness.run_folder import RunFolder
from profi.inpainter import Inpainter, check_finite
from profi.store.parts import quarantine
from profi.types import Triplet

log = logging.getLogger(__name__)

#: The remedy if a single picture does not fit.
SMALLER_MODEL = "set model.long_side to less, or model.dtype=float16"
#: How many pictures are painted at once, by (height, width) of the padded picture.
Limits = defaultdict[tuple[int, ...], BatchLimit]
Loaded = tuple[Triplet, Fitted]
#: A batch: the triplets that were read, and those that failed with their errors.
Read = tuple[list[Loaded], list[tuple[Triplet, Exception]]]


@dataclass(frozen=True)
class Tally:
    """How many samples were painted now, were already there, and failed."""

    painted: int
    kept: int
    failed: int

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.painted + other.painted, self.kept + other.kept, self.failed + other.failed
        )


def generate(
    run: RunFolder,
    inpainter: Inpainter,
    triplets: Sequence[Triplet],
    plan: Plan,
    device: torch.device,
    meter: Meter,
    facts: Mapping[str, str] | None = None,
) -> Tally:
    """Paint the missing samples of this shard's parts.

    A batch that does not fit into the memory is painted in halves, and so are later batches of
    this size. A batch that fails otherwise is painted sample by sample. A sample that fails is
    skipped and recorded in the quarantine with its traceback. A later start tries it again and
    repaints its whole batch; old pictures are replaced only if all of them are painted again.
    `seed` of a Generation is the run's seed; the start noise has `Plan.noise_seed`.
    Every part records `facts` (see `provenance.part_facts_of`). It also records the samples that
    were painted in another batch than planned, which changes their last bits, and in which sizes.

    While a batch is painted, the next one is read, and the part before is written.

    Raises:
        MachineError: the machine is at fault, not a sample.
    """
    painted = kept = failed = 0
    limits: Limits = defaultdict(lambda: BatchLimit(plan.batch_size))

    def batches() -> Iterator[tuple[PartWork, list[Triplet], bool]]:
        for index, part in plan.share(triplets):
            work = PartWork.of(run, index, part)
            # A complete part gives one empty batch, so that it is counted in order.
            todo = [batch for batch in plan.batches(part) if not work.has(batch)] or [[]]
            for batch in todo:
                yield work, batch, batch is todo[-1]

    def read(item: tuple[PartWork, list[Triplet], bool]) -> Read:
        return _read(plan, item[1])

    with in_background() as written:
        for (work, batch, is_last), loaded in read_ahead(batches(), read):
            if not batch:
                kept += len(work.part)
                meter.skip(len(work.part))
                continue
            work.take(batch, *_paint(run, inpainter, loaded, plan, limits, device, meter))
            if is_last:
                meter.skip(len(work.kept))
                written(partial(work.write, facts or {}))
                painted, kept = painted + len(work.fresh), kept + len(work.kept)
                failed += work.n_missing
                meter.log(f"part {work.index} painted")
    if failed and not painted and not kept:
        log.error("all %d samples failed: see the reasons in %s", failed, run.quarantine)
    return Tally(painted, kept, failed)


def _read(plan: Plan, batch: Sequence[Triplet]) -> Read:
    """A batch's pictures, and the triplets that could not be read."""
    loaded: list[Loaded] = []
    failed: list[tuple[Triplet, Exception]] = []
    for triplet in batch:
        try:
            loaded.append((triplet, plan.fitted(triplet)))
        except FAILURES as error:
            failed.append((triplet, error))
    return loaded, failed


def _paint(
    run: RunFolder,
    inpainter: Inpainter,
    batch: Read,
    plan: Plan,
    limits: Limits,
    device: torch.device,
    meter: Meter,
) -> tuple[list[Painted], set[int]]:
    """Paint one planned batch; returns its pictures, and how many were painted at once."""
    loaded, failed = batch
    for triplet, error in failed:
        _set_aside(run, triplet, "load", error)
    if not loaded:
        return [], set()

    def work(some: Sequence[Loaded]) -> list[Painted]:
        return paint_together(inpainter, some, plan, device, meter.advance)

    def give_up(item: Loaded, error: Exception) -> None:
        _set_aside(run, item[0], "generate", explained(error, SMALLER_MODEL))

    limit = limits[tuple(loaded[0][1].mask.shape)]
    return work_through(loaded, work, limit, give_up, "painting")


def paint_together(
    inpainter: Inpainter,
    loaded: Sequence[Loaded],
    plan: Plan,
    device: torch.device,
    advance: Callable[[float], None],
) -> list[Painted]:
    """Paint pictures of one size as one batch; `advance` gets the images done, in fractions.

    Raises one of FAILURES, and NotFiniteError if a picture is NaN.
    """
    counted = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal counted
        advance(len(loaded) * done / total - counted)
        counted = len(loaded) * done / total

    _reset_peak_memory(device)
    start = time.perf_counter()
    try:
        images = inpainter(
            torch.stack([fitted.image for _, fitted in loaded]),
            torch.stack([fitted.mask for _, fitted in loaded]),
            [triplet.prompt for triplet, _ in loaded],
            [plan.noise_seed(triplet) for triplet, _ in loaded],
            progress,
            contents([fitted for _, fitted in loaded], plan.evaluation.dilation),
        )
        check_finite(images)
    except FAILURES:
        # The batch failed: take its progress back.
        advance(-counted)
        raise
    seconds = (time.perf_counter() - start) / len(loaded)
    advance(len(loaded) - counted)
    peak = _peak_memory(device)
    pixels = [
        bytes_of(unfit(image, fitted), plan.evaluation.bytes)
        for (_, fitted), image in zip(loaded, images, strict=True)
    ]
    return [
        Painted(triplet.triplet_id, plan.seed, picture, seconds, peak)
        for (triplet, _), picture in zip(loaded, pixels, strict=True)
    ]


def _set_aside(run: RunFolder, triplet: Triplet, stage: str, error: Exception) -> None:
    quarantine(run.quarantine, triplet.triplet_id, stage, error)
    log.warning("%s set aside (%s): %s", triplet.triplet_id, stage, error)


def _reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_memory(device: torch.device) -> float:
    """Bytes; NaN if the device does not report a peak."""
    return float(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else math.nan


T = TypeVar("T")
R = TypeVar("R")


def read_ahead(items: Iterable[T], read: Callable[[T], R]) -> Iterator[tuple[T, R]]:
    """(item, read(item)) for every item; a thread reads one item ahead.

    An exception of `read` is raised at its own item.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="read") as thread:
        before: tuple[T, Future[R]] | None = None
        for item in items:
            now = item, thread.submit(read, item)
            if before is not None:
                yield before[0], before[1].result()
            before = now
        if before is not None:
            yield before[0], before[1].result()


@contextmanager
def in_background() -> Iterator[Callable[[Callable[[], None]], None]]:
    """A function that runs its argument in a thread; at most one call runs at a time.

    Where no thread can be started the argument is run at once. A call waits for the previous one,
    and the end of the block waits for the last one. The exception of a call is raised by the next
    call or at the end of the block. If another exception ends the block, that one is raised.
    """
    pending: list[Future[None]] = []

    def wait() -> None:
        while pending:
            pending.pop().result()

    def call(function: Callable[[], None]) -> None:
        wait()
        if thread is None:
            function()
        else:
            pending.append(thread.submit(function))

    thread: ThreadPoolExecutor | None
    with ThreadPoolExecutor(1, thread_name_prefix="write") as thread:
        try:
            thread.submit(int).result()
        except RuntimeError:  # There is no memory for another thread.
            thread = None
        yield call
        wait()
