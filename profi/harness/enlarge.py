"""High resolution for stored pictures: a run's pictures are the low ones of appendix E.

The large pictures lie in `<run>/highres/<digest>/part-*.parquet`, in the form of the generations
store. The digest is that of everything that changes their pixels besides the run itself: the
settings, the upscaler and the code. Parts that are there are not made again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from profi.atomic import write_text
from profi.data.manifest import read_manifest
from profi.data.masks import triplet_mask
from profi.data.pictures import load_image
from profi.fitting import bytes_of, fit
from profi.harness.memory import FAILURES, explained
from profi.harness.part_work import png_of
from profi.harness.provenance import code_digest
from profi.harness.run_folder import RunFolder, evaluation_of_run, run_record
from profi.harness.score import decode
from profi.highres.enlarging import Enlarging
from profi.highres.guided import check_settings
from profi.highres.upscaler import Upscaler
from profi.inpainter import blended
from profi.settings import SHIPPED, Config, Sampling
from profi.settings.evaluation import Evaluation
from profi.settings.highres import HighRes
from profi.store.generations import read_generations_part, write_generations
from profi.store.parts import part_facts, part_indices, quarantine
from profi.types import Generation, Triplet, UserError, canonical_json, digest, noise_seed

log = logging.getLogger(__name__)

STAGE = "highres"
SMALLER = "set a smaller highres.tile and highres.vae_tile, or model.dtype=float16"


def upscaler_choice(config: Config, device: str) -> tuple[str, str, str]:
    """The arguments of `load_upscaler` for an experiment: source, device, dtype.

    Without a choice, the embedded models have the embedded upscaler, the others x4.
    """
    model = config.per_model[0].model
    shipped = (model.path or "").startswith(SHIPPED)
    return config.upscaler or ("mini" if shipped else "x4"), device, model.dtype


def highres_folder(run: RunFolder, upscaler: Upscaler, settings: HighRes) -> Path:
    """Where a run's large pictures of this upscaler and these settings lie."""
    return run.highres / digest(_identity(upscaler, settings))


def _identity(upscaler: Upscaler, settings: HighRes) -> dict[str, object]:
    chosen = {name: value for name, value in asdict(settings).items() if name != "name"}
    code = code_digest(["profi.harness.enlarge"])
    return {"settings": chosen, "upscaler": dict(upscaler.identity), "code": code}


def enlarge(
    run: RunFolder,
    upscaler: Upscaler,
    settings: HighRes,
    root: Path,
    *,
    shard: tuple[int, int] = (0, 1),
    progress: Callable[[int], object] = lambda pictures: None,
) -> Path:
    """Enlarge the run's pictures of this shard's parts; returns the folder of the large ones.

    `root` is the folder of the given images; `progress` is called with the number of pictures of
    each part that is there. A picture that fails is set aside in the run's quarantine, and tried
    again by a later call. Raises UserError if all of them fail, or for settings that need another
    low picture than the stored one.
    """
    check_stored(run, settings)
    check_settings(upscaler, settings, "")
    target = highres_folder(run, upscaler, settings)
    target.mkdir(parents=True, exist_ok=True)
    write_text(target / "highres.json", canonical_json(_identity(upscaler, settings)) + "\n")
    triplets = {triplet.triplet_id: triplet for triplet in read_manifest(run.manifest)}
    evaluation = evaluation_of_run(run)
    failed = there = 0
    # By their numbers, as painting shares them: another shard may be painting others now.
    for index in (i for i in sorted(part_indices(run.generations)) if i % shard[1] == shard[0]):
        stored = {item.triplet_id: item for item in read_generations_part(target, index) or []}
        made_from = part_facts(target, index) if stored else {}
        rows: list[Generation] = []
        fresh = False
        lows = {low.triplet_id: low for low in read_generations_part(run.generations, index) or []}
        hashes = {name: sha256(low.image).hexdigest() for name, low in lows.items()}
        for name, low in lows.items():
            found = stored.get(name)
            # A part that was painted again has other small pictures.
            if found is None or made_from.get(name) != hashes[name]:
                try:
                    found = _large(low, triplets[name], upscaler, settings, root, evaluation)
                    fresh = True
                except FAILURES as error:
                    reason = explained(error, SMALLER)
                    quarantine(run.quarantine, name, STAGE, reason)
                    log.warning("%s set aside (%s): %s", name, STAGE, reason)
                    failed += 1
                    continue
            rows.append(found)
        if fresh:
            made = {row.triplet_id: hashes[row.triplet_id] for row in rows}
            write_generations(target, index, rows, made)
        there += len(rows)
        progress(len(rows))
    if failed and not there:
        raise UserError(f"all {failed} pictures failed: see the reasons in {run.quarantine}")
    return target


def check_stored(run: RunFolder, settings: HighRes) -> None:
    """UserError for settings that need another low picture than the stored one."""
    if settings.crop is not None or settings.long_side is not None:
        raise UserError("highres: stored pictures have their size: leave crop and long_side null")
    output = run_record(run)["pixels"].get("sampling", {}).get("output", Sampling.output)
    if settings.low == "decoded" and output != "unblended":
        raise UserError(
            f"highres={settings.name} enlarges pictures as decoded, and those of {run.root} are "
            f"{output}: paint with sampling.output=unblended, or choose highres=ours"
        )


def _large(
    low: Generation,
    triplet: Triplet,
    upscaler: Upscaler,
    settings: HighRes,
    root: Path,
    evaluation: Evaluation,
) -> Generation:
    start = time.perf_counter()
    image = torch.from_numpy(load_image(root, triplet)).permute(2, 0, 1) / 255.0
    mask = torch.from_numpy(triplet_mask(triplet))
    painted = torch.from_numpy(decode(low.image)).permute(2, 0, 1) / 255.0

    def paint_low(picture: Tensor, hole: Tensor, long_side: int) -> Tensor:
        if settings.low == "decoded":
            return painted
        fitted = fit(picture, hole, max(painted.shape[1:]), 1, evaluation)
        given = bytes_of(fitted.image, evaluation.bytes) / 255.0
        return blended(painted[None], given[None], fitted.mask[None], "blended")[0]

    work = Enlarging.of(image, mask, paint_low, max(painted.shape[1:]), settings, evaluation)
    of_run = evaluation.noise == "run"
    seed = low.seed if of_run else noise_seed(low.seed, low.triplet_id)
    pixels = work.finished(work.upscaled(upscaler, triplet.prompt, seed))
    return Generation(
        low.triplet_id, low.seed, png_of(pixels), time.perf_counter() - start, math.nan
    )
