"""A tiny text-to-image model with random weights, from the real classes."""

from __future__ import annotations

import copy
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from profi.models.backbone import Backbone
from profi.training.examples import Examples, TextToImage
from profi.training.recipe import Recipe
from profi.training.smartbrush_loss import Batch

RECIPE = Recipe(steps=4, batch=2, warmup=1, rate=1e-3, ema=0.5)


def text_to_image(
    backbone: Backbone, unet: UNet2DConditionModel, config: dict[str, Any]
) -> TextToImage:
    text = backbone.text.first
    scheduler = DDPMScheduler.from_config(config)
    parts = (copy.deepcopy(backbone.vae), copy.deepcopy(text.encoder), text.tokenizer)
    return TextToImage(unet, *parts, scheduler)


def examples(n: int = 4, seed: int = 0) -> Examples:
    """Squares of several sizes on noise; the last sample is text-to-image."""
    images = torch.rand(n, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    objects = torch.zeros(n, 64, 64, dtype=torch.bool)
    for i in range(n):
        objects[i, 8 : 24 + 4 * i, 20 : 40 + 2 * i] = True
        objects[i, 8:16, 20:28] = False
    levels = [*(i % 5 for i in range(n - 1)), None]
    return Examples(images, objects, ["cat", "red bus", "", "dog"][:n], levels)


class Recorder(nn.Module):
    """In place of a UNet: keeps what it is given and answers with zeros."""

    def forward(self, x: Tensor, t: Tensor, context: Tensor, class_labels: Tensor) -> Any:
        self.given, self.levels = x, class_labels
        out = torch.zeros(len(x), 5, *x.shape[2:])
        return type("Output", (), {"sample": out})


def batch_of(model: TextToImage, n: int = 4) -> Batch:
    return model.batch(examples(n), RECIPE)
