"""The stage score: writes the scores of painted images, one store per metric."""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from profi.atomic import write_text
from profi.data.masks import triplet_mask
from profi.fitting import bytes_of, fit_mask, unfit, working_size
from profi.harness.memory import BatchLimit, explained, work_through
from profi.harness.plan import Plan
from profi.harness.progress import Meter
from profi.harness.run_folder import RunFolder
from profi.metrics import Metric, Sample
from profi.settings.evaluation import Evaluation
from profi.store.generations import pictures_digest, read_generations_part
from profi.store.parts import part_indices, quarantine
from profi.store.scores import (
    IDENTITY,
    failed_scores,
    read_scores_part,
    scores_folder_name,
    write_scores,
)
from profi.types import Generation, Score, Triplet, UserError

log = logging.getLogger(__name__)

#: The remedy if a single picture does not fit.
ELSEWHERE = "run stage=score with model.device=cpu, or on a machine with more memory"

#: The image before painting, uint8 [H, W, 3] at the painted size; UserError if it is missing.
Originals = Callable[[Triplet], np.ndarray]


@dataclass(frozen=True)
class ScoreTally:
    """How many scores were computed now, were already there, and are NaN."""

    computed: int
    kept: int
    n_nan: int


def scores_folder(run: RunFolder, metric: Metric) -> Path:
    """The folder of a run's scores of a metric."""
    return run.scores / scores_folder_name(metric.name, metric.identity)


def score(
    run: RunFolder,
    metrics: Sequence[Metric],
    triplets: Sequence[Triplet],
    originals: Originals,
    evaluation: Evaluation,
    batch_size: int,
    meter: Meter,
    shard: tuple[int, int] = (0, 1),
) -> ScoreTally:
    """Compute the missing scores of this shard's parts.

    `evaluation` is that of the painting; the metrics have their own rules for scores.
    A batch that does not fit into the memory is scored in halves, and so are later batches of this
    metric. A batch that fails otherwise is scored sample by sample. A sample that still fails gets
    NaN and is recorded in the quarantine and with the scores. A later start tries it again and
    scores its whole batch.

    Raises:
        UserError: an image's triplet is not in the manifest; or a metric compares with the
            originals, and they are missing.
    """
    by_id = {triplet.triplet_id: triplet for triplet in triplets}
    computed = kept = n_nan = 0
    limits = {metric.name: BatchLimit(batch_size) for metric in metrics}
    for metric in metrics:
        _note_identity(scores_folder(run, metric), metric)
    for index in part_indices(run.generations):
        if index % shard[1] != shard[0]:
            continue
        generations = read_generations_part(run.generations, index)
        if not generations:
            continue
        source = pictures_digest(generations)
        found = {m.name: _good(scores_folder(run, m), index, source) for m in metrics}
        gaps = {m.name: _batches_with_gaps(generations, found[m.name], batch_size) for m in metrics}
        missing = {g.triplet_id for gap in gaps.values() for g in gap}
        needed = any(metric.needs_original and gaps[metric.name] for metric in metrics)
        todo = [item for item in generations if item.triplet_id in missing]
        samples = samples_of(todo, by_id, originals if needed else None, evaluation)
        for metric in metrics:
            gap, good = gaps[metric.name], found[metric.name]
            if gap:
                fresh, failed, sizes = _scores(run, metric, gap, samples, limits[metric.name])
                # A new NaN does not replace a stored score.
                failed = [name for name in failed if name not in good]
                good |= {n: s for n, s in fresh.items() if n not in good or not math.isnan(s.value)}
                scores = [good[item.triplet_id] for item in generations]
                write_scores(scores_folder(run, metric), index, scores, source, failed, sizes)
            computed += len(gap)
            kept += len(generations) - len(gap)
            n_nan += sum(math.isnan(item.value) for item in good.values())
        meter.advance(len(generations))
        meter.log(f"part {index} scored")
    return ScoreTally(computed, kept, n_nan)


def _batches_with_gaps(
    generations: Sequence[Generation], good: Mapping[str, Score], batch_size: int
) -> list[Generation]:
    """The samples of all batches that lack a score.

    Whole batches, so that a sample gets the same bits after a failure as without one.
    """
    batches = [
        generations[start : start + batch_size] for start in range(0, len(generations), batch_size)
    ]
    return [
        item
        for batch in batches
        if any(item.triplet_id not in good for item in batch)
        for item in batch
    ]


def _good(folder: Path, index: int, source: str) -> dict[str, Score]:
    """The stored scores by triplet, without the NaN of failures."""
    scores = read_scores_part(folder, index, source)
    if scores is None:
        return {}
    failed = failed_scores(folder, index)
    return {item.triplet_id: item for item in scores if item.triplet_id not in failed}


def samples_of(
    generations: Sequence[Generation],
    by_id: dict[str, Triplet],
    originals: Originals | None,
    evaluation: Evaluation,
) -> dict[str, Sample]:
    """The metrics' samples by triplet; without originals if no metric needs them."""
    samples = {}
    for item in generations:
        triplet = by_id.get(item.triplet_id)
        if triplet is None:
            raise UserError(f"{item.triplet_id} is painted but not in the run's manifest")
        image = decode(item.image)
        original = None if originals is None else _original(originals, triplet, image.shape)
        given = triplet_mask(triplet)
        mask = painted_mask(given, image.shape[:2], evaluation)
        bicubic = fit_mask(torch.from_numpy(given), image.shape[:2], "pil_bicubic").numpy()
        samples[item.triplet_id] = Sample(image, mask, triplet.prompt, original, bicubic)
    return samples


def _original(originals: Originals, triplet: Triplet, shape: tuple[int, ...]) -> np.ndarray:
    """The image before painting; UserError if it is missing or has another size."""
    try:
        original = originals(triplet)
    except UserError as error:
        raise UserError(
            f"a metric compares with the originals: {error}, or leave it out of metric.metrics"
        ) from error
    if original.shape != shape:
        raise UserError(
            f"{triplet.file_name} is not the painted image (it has another size): "
            "set data.root to the folder of the run's images, or leave known_region_psnr out of "
            "metric.metrics"
        )
    return original


def decode(png: bytes) -> np.ndarray:
    """The pixels of a stored image, uint8 [H, W, 3]."""
    with Image.open(io.BytesIO(png)) as image:
        return np.array(image.convert("RGB"))


def painted_mask(mask: np.ndarray, size: Sequence[int], evaluation: Evaluation) -> np.ndarray:
    """A bool mask [H, W], fitted as for the model to a picture of `size` (height, width).

    So the metrics see exactly the pixels that were painted.

    Raises:
        UserError: a picture fitted to the model cannot have that size.
    """
    height, width = working_size(mask.shape, max(size), evaluation.size)
    if (height, width) != tuple(size):
        raise UserError(
            f"a picture of {size[1]}x{size[0]} pixels was not painted from an image of "
            f"{mask.shape[1]}x{mask.shape[0]}: the data have changed, paint it again"
        )
    return fit_mask(torch.from_numpy(mask), (height, width), evaluation.mask).numpy()


def originals_of(plan: Plan) -> Originals:
    """The images from the data's folder, fitted as for the model."""

    def original(triplet: Triplet) -> np.ndarray:
        fitted = plan.fitted(triplet)
        pixels = bytes_of(unfit(fitted.image, fitted), "rounded")
        return pixels.permute(1, 2, 0).contiguous().numpy()

    return original


def _scores(
    run: RunFolder,
    metric: Metric,
    generations: Sequence[Generation],
    samples: Mapping[str, Sample],
    limit: BatchLimit,
) -> tuple[dict[str, Score], list[str], set[int]]:
    """The scores by triplet, the triplets that failed (NaN), and the sizes of the batches."""
    failed: list[str] = []

    def work(some: Sequence[Generation]) -> list[Score]:
        values = metric([samples[item.triplet_id] for item in some])
        return [
            Score(item.triplet_id, item.seed, metric.name, value)
            for item, value in zip(some, values, strict=True)
        ]

    def give_up(item: Generation, error: Exception) -> None:
        failed.append(item.triplet_id)
        reason = explained(error, ELSEWHERE)
        quarantine(run.quarantine, item.triplet_id, f"score {metric.name}", reason)
        log.warning("%s has no %s: %s", item.triplet_id, metric.name, reason)

    scores, sizes = work_through(generations, work, limit, give_up, metric.name)
    found = {
        item.triplet_id: Score(item.triplet_id, item.seed, metric.name, math.nan)
        for item in generations
    }
    return found | {item.triplet_id: item for item in scores}, failed, sizes


def _note_identity(folder: Path, metric: Metric) -> None:
    """Write the identity that the hash in the folder's name is of."""
    path = folder / IDENTITY
    if not path.is_file():
        text = json.dumps({"metric": metric.name, **metric.identity}, indent=2, default=str)
        write_text(path, text + "\n")
