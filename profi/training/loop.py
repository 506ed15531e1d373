"""The training loop on accelerate: any number of processes, mixed precision, exact resume.

Nothing is drawn from a stream that a stop could break: a sample depends on its index, noise and
timesteps on the index of the forward pass's first sample. So a resumed run is the undisturbed one
(bit-equal on one CPU thread), and a run of N processes sees the samples of a run of one.
"""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from profi.training.examples import Source, TextToImage
from profi.training.recipe import Recipe
from profi.training.smartbrush import Batch, losses
from profi.types import UserError, digest

EMA_FILE, STATE_FILE = "ema.safetensors", "state.json"
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
        recipe: the settings; those of an earlier run in `folder` must be the same.
        folder: gets `checkpoint-<update>` (the last one only) and `loss.csv`.
        accelerator: made with the recipe's `accumulate`.
        save_every: updates between two checkpoints.
        stop: asked after every update, in every process, whether to end early.
        tell: told the losses, about every ten seconds, in the first process.
        show: handed the average every `show_every` updates, in the first process.
        show_every: see `show`.

    Returns:
        The UNet holding its moving average, and the figures steps, seconds and samples.

    Raises:
        UserError: `folder` belongs to another recipe or to another number of processes.
    """
    device, main = accelerator.device, accelerator.is_main_process
    optimizer = torch.optim.AdamW(
        unet.parameters(), lr=recipe.rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay
    )
    unet.to(device).train()
    if device.type == "cpu":
        # There the backward pass of fused attention takes several times as long as the plain one.
        unet.set_attn_processor(AttnProcessor())
    prepared, optimizer = accelerator.prepare(unet, optimizer)
    average = EMAModel(unet.parameters(), decay=recipe.ema)
    average.to(device)
    processes = accelerator.num_processes
    belongs = {"recipe": asdict(recipe), "processes": processes}
    step, before = 0, 0.0
    last = _checkpoint(folder)
    if last is not None:
        step, before = _resume(accelerator, average, last, belongs)
    if main:
        folder.mkdir(parents=True, exist_ok=True)
        _cut_log(folder / "loss.csv", step)
    plan = batches_of(recipe, step, accelerator.process_index, processes)
    firsts = batches_of(recipe, step, accelerator.process_index, processes)
    started = told = time.monotonic()
    sums: dict[str, Tensor] = {}
    passes = 0
    timesteps = model.scheduler.config.num_train_timesteps
    # (the source may read ahead, so the indices of the pass at hand are counted a second time)
    for batch, indices in zip(source.batches(plan), firsts, strict=False):
        batch = batch.to(device)
        noise, t = noise_and_times(batch, indices[0], recipe.seed, timesteps, device)
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate_at(step)
        # What layers draw (dropout) starts anew too.
        torch.manual_seed(indices[0])
        with accelerator.accumulate(prepared):
            with accelerator.autocast():
                context = model.context(batch.ids)
            terms = losses(prepared, batch, context, model.scheduler, noise, t, recipe.dice_weight)
            accelerator.backward(torch.stack(list(terms.values())).sum())
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(unet.parameters(), recipe.clip)
            optimizer.step()
            optimizer.zero_grad()
        passes += 1
        for name, term in terms.items():
            sums[name] = sums.get(name, torch.zeros((), device=device)) + term.detach()
        if not accelerator.sync_gradients:
            continue
        step += 1
        average.step(unet.parameters())
        now = time.monotonic()
        ends = step == recipe.steps or stop(step, now - started)
        if main and (now - told > 10 or ends):
            means = {name: value.item() / passes for name, value in sums.items()}
            _log(folder / "loss.csv", step, before + now - started, means)
            tell(step, before + now - started, means)
            sums, passes, told = {}, 0, now
        if step % save_every == 0 or ends:
            _save(accelerator, average, folder, step, before + now - started, belongs)
        if show is not None and main and step % show_every == 0:
            # A second UNet: to show one takes its gradients off.
            shown = UNet2DConditionModel.from_config(unet.config).to(device)
            average.copy_to(shown.parameters())
            show(shown, step)
        if ends:
            break
    average.copy_to(unet.parameters())
    seconds = before + time.monotonic() - started
    samples = step * recipe.batch * recipe.accumulate * processes
    return unet.eval(), {"steps": step, "seconds": seconds, "samples": samples}


def _checkpoint(folder: Path) -> Path | None:
    """The last whole checkpoint."""
    found = [p for p in folder.glob("checkpoint-*") if p.suffix != ".tmp"]
    return max(found, key=lambda p: int(p.name.removeprefix("checkpoint-")), default=None)


def _resume(
    accelerator: Accelerator, average: EMAModel, last: Path, belongs: dict[str, object]
) -> tuple[int, float]:
    """Load a checkpoint; returns its update and the seconds trained until then."""
    state = json.loads((last / STATE_FILE).read_text())
    if state["belongs"] != json.loads(json.dumps(belongs)):
        raise UserError(
            f"{last.parent} was trained with other settings or another number of processes: "
            "give those, or another work="
        )
    accelerator.load_state(str(last))
    weights = load_file(last / EMA_FILE)
    for i, shadow in enumerate(average.shadow_params):
        shadow.copy_(weights[str(i)])
    average.optimization_step = state["step"]
    return state["step"], state["seconds"]


def _save(
    accelerator: Accelerator,
    average: EMAModel,
    folder: Path,
    step: int,
    seconds: float,
    belongs: dict[str, object],
) -> None:
    """Write `checkpoint-<step>` beside and rename it, so that one is whole or not there."""
    target = folder / f"checkpoint-{step}"
    temporary = target.with_suffix(".tmp")
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(temporary))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shadows = {str(i): p.contiguous().cpu() for i, p in enumerate(average.shadow_params)}
        save_file(shadows, temporary / EMA_FILE)
        state = {"step": step, "seconds": seconds, "belongs": belongs}
        (temporary / STATE_FILE).write_text(json.dumps(state))
        older = _checkpoint(folder)
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
        if older is not None and older != target:
            shutil.rmtree(older)
    accelerator.wait_for_everyone()


def _log(path: Path, step: int, seconds: float, means: dict[str, float]) -> None:
    with path.open("a", newline="") as file:
        row = [step, round(seconds, 1), *(f"{name}={value:.5f}" for name, value in means.items())]
        csv.writer(file).writerow(row)


def _cut_log(path: Path, step: int) -> None:
    """Drop what a killed run logged after its last checkpoint."""
    if path.exists():
        with path.open(newline="") as file:
            rows = [row for row in csv.reader(file) if int(row[0]) <= step]
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
