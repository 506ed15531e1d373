"""Trainings of the tiny model, from four samples over and over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import UNet2DConditionModel
from tiny_model import RECIPE, batch_of

from profi.training.examples import TextToImage
from profi.training.recipe import Recipe
from profi.training.smartbrush_loss import Batch, from_text_to_image
from profi.training.smartbrush_training import train_smartbrush


@dataclass(frozen=True)
class Cycle:
    """Notes what it was asked for; the latents of the samples `poisoned` are no numbers."""

    model: TextToImage
    asked: list[list[int]] = field(default_factory=list)
    poisoned: Collection[int] = ()

    def batches(self, of_batches: Iterable[Sequence[int]]) -> Iterator[Batch]:
        pool = batch_of(self.model)
        for indices in of_batches:
            self.asked.append(list(indices))
            batch = pool.rows(torch.tensor([i % 4 for i in indices]))
            bad = torch.tensor([i in self.poisoned for i in indices])[:, None, None, None]
            yield replace(batch, latents=torch.where(bad, torch.nan, batch.latents))


def new_accelerator(recipe: Recipe = RECIPE, precision: str = "no") -> Accelerator:
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        cpu=True, mixed_precision=precision, gradient_accumulation_steps=recipe.accumulate
    )


def run(
    model: TextToImage,
    folder: Path,
    recipe: Recipe = RECIPE,
    accelerator: Accelerator | None = None,
    poisoned: Collection[int] = (),
    stop: Callable[[int, float], bool] = lambda *_: False,
    fingerprint: Mapping[str, object] | None = None,
    save_every: int = 1000,
    **options: Any,
) -> tuple[UNet2DConditionModel, dict[str, float], list[list[int]]]:
    """The averaged UNet, the figures and the samples that were asked for."""
    source = Cycle(model, poisoned=poisoned)
    unet, figures = train_smartbrush(
        from_text_to_image(model.unet, recipe.coarsest),
        model,
        source,
        recipe,
        folder,
        accelerator or new_accelerator(recipe),
        fingerprint=fingerprint or {},
        save_every=save_every,
        stop=stop,
        **options,
    )
    return unet, figures, source.asked


def trained(
    model: TextToImage, folder: Path, recipe: Recipe = RECIPE, stop_after: int = 99, precision="no"
) -> tuple[UNet2DConditionModel, dict[str, float], list[list[int]]]:
    accelerator = new_accelerator(recipe, precision)
    return run(model, folder, recipe, accelerator, stop=lambda step, _: step >= stop_after)


def equal(a: UNet2DConditionModel, b: UNet2DConditionModel) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)
