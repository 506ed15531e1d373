"""SmartBrush in the training loop: its samples by number, its noise, and what it leaves."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from profi.training import loop
from profi.training.examples import Source, TextToImage
from profi.training.recipe import Recipe
from profi.training.smartbrush_loss import Batch, losses
from profi.types import digest


def sample_indices(recipe: Recipe, number: int, ranks: int) -> Iterator[range]:
    """The sample indices of every forward pass of one process, from its pass `number` on.

    Pass k of all `ranks` processes has the k-th `batch` of the samples.
    """
    for k in range(number, recipe.steps * recipe.accumulate * ranks, ranks):
        yield range(k * recipe.batch, (k + 1) * recipe.batch)


def noise_and_times(
    batch: Batch, first: int, seed: int, timesteps: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """noise [B, 4, h, w] and timesteps [B] of the pass whose first sample is `first`.

    Drawn on the CPU, so that a GPU starts from the same.
    """
    g = torch.Generator().manual_seed(int(digest([seed, first]), 16) >> 1)
    noise = torch.randn(batch.latents.shape, generator=g)
    return noise.to(device), loop.stratified_timesteps(len(batch), g, timesteps).to(device)


def train_smartbrush(
    unet: UNet2DConditionModel,
    model: TextToImage,
    source: Source,
    recipe: Recipe,
    folder: Path,
    accelerator: Accelerator,
    *,
    fingerprint: Mapping[str, object] = MappingProxyType({}),
    save_every: int = 1000,
    show: Callable[[UNet2DConditionModel, int], None] | None = None,
    show_every: int = 1000,
    **options: Any,
) -> tuple[UNet2DConditionModel, dict[str, float]]:
    """Train `unet` from the last checkpoint in `folder`, or from the beginning.

    Args:
        unet: as `from_text_to_image` gives it.
        model: encodes the samples, on the accelerator's device.
        source: of the samples.
        recipe: the settings.
        folder: see `profi.training.loop.train`, as for `save_every` and other options.
        accelerator: made with the recipe's `accumulate`.
        fingerprint: what decides the result apart from recipe, precision and number of processes:
            the start model and the data, as JSON values. An earlier run in `folder` must have the
            same.
        save_every: updates between two checkpoints.
        show: called every `show_every` updates, in the first process, with a UNet of the averaged
            weights and the update. Given in all processes or in none.
        show_every: see `show`.
        options: `stop` and `on_log` of the loop.

    Returns:
        The UNet with its moving average as weights, and the figures steps, seconds and samples.

    Raises:
        UserError: as the loop does.
    """
    device, ranks = accelerator.device, accelerator.num_processes
    unet.to(device)
    plain_attention_on_cpu(unet)
    prepared = accelerator.prepare(unet)
    timesteps = model.scheduler.config.num_train_timesteps
    batches: Iterator[Batch] | None = None

    def loss_at(number: int) -> dict[str, Tensor]:
        nonlocal batches
        if batches is None:  # the source reads ahead, from where the training begins
            batches = source.batches(sample_indices(recipe, number, ranks))
        batch = next(batches).to(device)
        noise, t = noise_and_times(batch, number * recipe.batch, recipe.seed, timesteps, device)
        with accelerator.autocast():
            context = model.context(batch.ids)
        return losses(prepared, batch, context, model.scheduler, noise, t, recipe.dice_weight)

    def validate(weights: Mapping[str, Tensor], step: int) -> None:
        # A second UNet: painting takes its gradients off.
        shown = UNet2DConditionModel.from_config(unet.config).to(device)
        shown.load_state_dict(weights)
        assert show is not None
        show(shown, step)

    figures = loop.train(
        prepared,
        loss_at,
        recipe,
        folder,
        accelerator,
        belongs={**loop.settings_of(recipe, accelerator), **fingerprint},
        save_every=save_every,
        validate=None if show is None else validate,
        validate_every=show_every,
        **options,
    )
    return unet, figures


def plain_attention_on_cpu(model: Any) -> None:
    """On a CPU the backward pass of fused attention takes several times as long as the plain one.

    (With it an update of the embedded world's UNets takes 1.4 times as long.)
    """
    if model.device.type == "cpu":
        model.set_attn_processor(AttnProcessor())


def save_model(
    unet: UNet2DConditionModel, start: Path, target: Path, parts: Path | None = None
) -> None:
    """Write a folder in the diffusers layout: the UNet in half precision, the scheduler of `start`.

    With `parts`, its VAE, text encoder and tokenizer too. What is at `target` is replaced at the
    end, so that the folder is never half a model. Changes the UNet to half precision.
    """
    new = target.with_name(f"{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    unet.half().save_pretrained(new / "unet")
    shutil.copytree(start / "scheduler", new / "scheduler")
    if parts is not None:
        for part in ("vae", "text_encoder", "tokenizer"):
            shutil.copytree(parts / part, new / part)
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)
