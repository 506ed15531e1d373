"""What the shipped SmartBrush and ControlNet have learned, on fresh validation scenes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from profi.mini.scenes import SceneSampler, SpriteSheet
from profi.mini.training.controlnet_stage import condition
from profi.mini.training.smartbrush_stage import MINI
from profi.mini.world import WORLDS
from profi.training.examples import Examples, TextToImage
from profi.training.smartbrush_loss import Batch, losses

N = 64
SIZE = WORLDS["cpu"]
BOX = MINI.coarsest


@pytest.fixture(scope="module")
def model() -> TextToImage:
    return TextToImage.load(SIZE.folder / "t2i", SIZE.folder / "inpaint")


@pytest.fixture(scope="module")
def scenes():  # type: ignore[no-untyped-def]
    sampler = SceneSampler(SIZE, SpriteSheet.load(SIZE, "val"))
    return sampler.sample(N, torch.Generator().manual_seed(4321))


def noise_and_times(batch: Batch) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(7)
    return torch.randn(batch.latents.shape, generator=g), torch.arange(N) * 1000 // N


def batch_with(model: TextToImage, scenes, texts: list[str], level: int) -> Batch:  # type: ignore[no-untyped-def]
    """The scenes' first objects, in holes of that precision; scenes without one are left out."""
    seen = scenes.category[:, 0] >= 0
    examples = Examples(scenes.image, scenes.masks[:, 0], texts, [level] * N)
    return replace(model.batch(examples, MINI), inpainting=seen)


@torch.no_grad()
def test_smartbrush_paints_the_label_and_knows_where(model, scenes) -> None:  # type: ignore[no-untyped-def]
    unet = UNet2DConditionModel.from_pretrained(
        SIZE.folder / "smartbrush" / "unet", torch_dtype=torch.float32
    ).eval()
    labels = [SIZE.categories[k] for k in scenes.category[:, 0].tolist()]
    others = [SIZE.categories[k - 1] for k in scenes.category[:, 0].tolist()]
    terms = {}
    for name, texts in (("label", labels), ("other", others)):
        batch = batch_with(model, scenes, texts, BOX)
        noise, t = noise_and_times(batch)
        seen = batch.inpainting.nonzero()[:, 0]
        batch = batch.rows(seen)
        context = model.context(batch.ids)
        terms[name] = losses(unet, batch, context, model.scheduler, noise[seen], t[seen], 1.0)
    # Given a box, the right text tells what to denoise towards, and the object's outline in it.
    assert terms["label"]["diffusion"] < 0.9 * terms["other"]["diffusion"]
    assert terms["label"]["dice"] < 0.25


@torch.no_grad()
def test_the_controlnet_tells_the_unet_what_is_around_the_hole(model, scenes) -> None:  # type: ignore[no-untyped-def]
    control = ControlNetModel.from_pretrained(
        SIZE.folder / "controlnet", torch_dtype=torch.float32
    ).eval()
    batch = batch_with(model, scenes, ["a picture of a scene"] * N, BOX)
    noise, t = noise_and_times(batch)
    x_t, target = (
        model.scheduler.add_noise(batch.latents, noise, t),
        model.scheduler.get_velocity(batch.latents, noise, t),
    )
    context = model.context(batch.ids)
    scale = SIZE.image_size // SIZE.latent_size
    holes = batch.mask.repeat_interleave(scale, 2).repeat_interleave(scale, 3)[:, 0]

    def error(condition: Tensor) -> tuple[float, float]:
        """Mean squared errors of v, outside and inside of the holes."""
        down, mid = control(x_t, t, context, controlnet_cond=condition, return_dict=False)
        v = model.unet(
            x_t,
            t,
            context,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample
        squared, hole = (v - target).square(), batch.mask.expand_as(target)
        return float(squared[~hole].mean()), float(squared[hole].mean())

    plain = (model.unet(x_t, t, context).sample - target).square()
    outside, _ = error(condition(scenes.image, holes))
    blind, _ = error(torch.full_like(scenes.image, -1.0))
    hole = batch.mask.expand_as(target)
    assert outside < 0.7 * float(plain[~hole].mean())
    assert outside < 0.7 * blind
