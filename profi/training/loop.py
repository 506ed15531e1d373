"""The training loop on accelerate: any number of processes, mixed precision, exact resume.

Nothing is drawn from a stream that a stop could break: a sample depends on its index, noise and
timesteps on the index of the forward pass's first sample. So a resumed run is the undisturbed one
(bit-equal on one CPU thread), and a run of N processes sees the samples of a run of one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from diffusers.training_utils import EMAModel
from torch import Tensor

from profi.training.checkpoints import Checkpoints, Progress
from profi.training.examples import Source, TextToImage
from profi.training.losses_told import Means, cut_log, log_losses
from profi.training.recipe import BETAS, Recipe
from profi.training.smartbrush import Batch, losses
from profi.types import digest

#: Updates in a row without a finite gradient after which a training is given up.
PATIENCE = 5
#: Between two times that the losses are told.
TOLD_SECONDS = 10.0
#: Whether to end, with a checkpoint to go on from, after (updates, seconds of this call).
Stop = Callable[[int, float], bool]
#: Told (update, seconds so far, named losses) every so often.
Tell = Callable[[int, float, dict[str, float]], None]
#: Handed the averaged UNet and the update, to paint and show validation pictures.
Show = Callable[[UNet2DConditionModel, int], None]


def batches_of(recipe: Recipe, step: int, rank: int, ranks: int) -> Iterator[range]:
    """The sample indices of every forward pass of one process, from update `step` on.

    An update's samples are batch x accumulate x processes indices in a row.
    """
    passes = recipe.accumulate * ranks
    for k in range(step, recipe.steps):
        for j in range(recipe.accumulate):
            first = ((k * passes) + j * ranks + rank) * recipe.batch
            yield range(first, first + recipe.batch)


def noise_and_times(
    batch: Batch, first: int, seed: int, timesteps: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """noise [B, 4, h, w] and timesteps [B] of the pass whose first sample is `first`.

    Drawn on the CPU, so that a GPU starts from the same. The timesteps are stratified: one in each
    of B equal parts of all, which steadies the loss; every one is uniform by itself.
    """
    g = torch.Generator().manual_seed(int(digest([seed, first]), 16) >> 1)
    noise = torch.randn(batch.latents.shape, generator=g)
    spread = (torch.arange(len(batch)) + torch.rand(len(batch), generator=g)) / len(batch)
    t = (spread * timesteps).long().clamp(max=timesteps - 1)
    return noise.to(device), t.to(device)


def train(
    unet: UNet2DConditionModel,
    model: TextToImage,
    source: Source,
    recipe: Recipe,
    folder: Path,
    accelerator: Accelerator,
    identity: Mapping[str, object] = MappingProxyType({}),
    save_every: int = 1000,
    stop: Stop = lambda *_: False,
    tell: Tell = lambda *_: None,
    show: Show | None = None,
    show_every: int = 1000,
) -> tuple[UNet2DConditionModel, dict[str, float]]:
    """Train `unet` from the last checkpoint in `folder`, or from the beginning.

    Args:
        unet: as `from_text_to_image` gives it.
        model: what the samples are encoded by, on the accelerator's device.
        source: of the samples.
        recipe: the settings.
        folder: gets `checkpoint-<update>` (the last two) and `loss.csv`.
        accelerator: made with the recipe's `accumulate`.
        identity: what decides the result beside recipe, precision and number of processes: the
            start model and the data, as JSON values. An earlier run in `folder` must be of the
            same.
        save_every: updates between two checkpoints.
        stop: asked after every update, in the first process, whether to end early.
        tell: told the losses of all processes, about every ten seconds, in the first one.
        show: handed the average every `show_every` updates, in the first process; the others
            wait. Given in all processes or in none.
        show_every: see `show`.

    Returns:
        The UNet holding its moving average, and the figures steps, seconds and samples.

    Raises:
        UserError: `folder` belongs to something else or is damaged; the gradient was not finite
            in PATIENCE updates in a row, or a weight is not (no checkpoint is then written).
    """
    device, main = accelerator.device, accelerator.is_main_process
    optimizer = torch.optim.AdamW(
        unet.parameters(), lr=recipe.rate, betas=BETAS, weight_decay=recipe.weight_decay
    )
    unet.to(device).train()
    if device.type == "cpu":
        # There the backward pass of fused attention takes several times as long as the plain one.
        unet.set_attn_processor(AttnProcessor())
    prepared, optimizer = accelerator.prepare(unet, optimizer)
    average = EMAModel(unet.parameters(), decay=recipe.ema)
    average.to(device)
    processes = accelerator.num_processes
    belongs = {
        **asdict(recipe),
        "betas": BETAS,
        "processes": processes,
        "precision": accelerator.mixed_precision,
        **identity,
    }
    checkpoints = Checkpoints(folder, accelerator, unet, optimizer, average, belongs)
    begun = checkpoints.resume()
    step, not_finite = begun.step, begun.not_finite
    if main:
        folder.mkdir(parents=True, exist_ok=True)
        cut_log(folder / "loss.csv", step)
    plan = batches_of(recipe, step, accelerator.process_index, processes)
    firsts = batches_of(recipe, step, accelerator.process_index, processes)
    started = told = time.monotonic()
    means = Means()
    timesteps = model.scheduler.config.num_train_timesteps
    # (the source may read ahead, so the indices of the pass at hand are counted a second time)
    for batch, indices in zip(source.batches(plan), firsts, strict=False):
        batch = batch.to(device)
        noise, t = noise_and_times(batch, indices[0], recipe.seed, timesteps, device)
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate_at(step)
        # What layers draw (dropout) starts anew too.
        torch.manual_seed(int(digest(["layers", recipe.seed, indices[0]]), 16) >> 1)
        with accelerator.accumulate(prepared):
            with accelerator.autocast():
                context = model.context(batch.ids)
            terms = losses(prepared, batch, context, model.scheduler, noise, t, recipe.dice_weight)
            accelerator.backward(torch.stack(list(terms.values())).sum())
            means.add(terms)
            if not accelerator.sync_gradients:
                continue
            stepped = _update(accelerator, optimizer, unet, recipe.clip)
        step += 1
        means.end_update(stepped)
        if stepped:
            average.step(unet.parameters())
            not_finite = 0
        elif not _seeks_scale(accelerator):
            not_finite += 1
            if not_finite == PATIENCE:
                raise checkpoints.no_good(
                    f"update {step}: the gradient was not finite in {PATIENCE} updates in a row"
                )
        # Clocks differ between processes: the first one's counts.
        now = time.monotonic()
        ends, tells = _first_process_says(
            accelerator,
            step == recipe.steps or stop(step, now - started) if main else False,
            now - told > TOLD_SECONDS,
        )
        seconds = begun.seconds + now - started
        if ends or tells:
            values = means.over_processes(accelerator)
            means, told = Means(), now
            if main:
                log_losses(folder / "loss.csv", step, seconds, values)
                tell(step, seconds, values)
        # (not among bad updates, where the kept ones could be the last good ones)
        if ends or (step % save_every == 0 and not not_finite):
            checkpoints.save(Progress(step, average.optimization_step, seconds, not_finite))
        if show is not None and step % show_every == 0:
            if main:
                # A second UNet: to show one takes its gradients off.
                shown = UNet2DConditionModel.from_config(unet.config).to(device)
                average.copy_to(shown.parameters())
                show(shown, step)
            accelerator.wait_for_everyone()
        if ends:
            break
    average.copy_to(unet.parameters())
    seconds = begun.seconds + time.monotonic() - started
    samples = step * recipe.batch * recipe.accumulate * processes
    return unet.eval(), {"steps": step, "seconds": seconds, "samples": samples}


def _update(accelerator: Accelerator, optimizer: Any, unet: torch.nn.Module, clip: float) -> bool:
    """Step the optimizer unless the gradient is not finite; returns whether it did.

    It does so in all processes alike: the gradient is their mean.
    """
    norm = accelerator.clip_grad_norm_(unet.parameters(), clip)
    finite = bool(torch.isfinite(norm))
    if finite:
        optimizer.step()
    elif accelerator.scaler is not None:
        accelerator.scaler.update()  # to a smaller scale
    optimizer.zero_grad()
    return finite and not accelerator.optimizer_step_was_skipped


def _seeks_scale(accelerator: Accelerator) -> bool:
    """Whether float16's losses are still scaled up, so that an overflow is no bad sign.

    The scale begins high and is halved by every overflow.
    """
    return accelerator.scaler is not None and accelerator.scaler.get_scale() >= 1.0


def _first_process_says(accelerator: Accelerator, *decisions: bool) -> list[bool]:
    """The first process's decisions, in all processes."""
    told = torch.tensor(decisions, dtype=torch.int32, device=accelerator.device)
    return [bool(one) for one in broadcast(told).tolist()]
