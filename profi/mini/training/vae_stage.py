"""Stage `vae`: an AutoencoderKL on scenes, and on pieces of them in grey holes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from profi.mini import models
from profi.mini.scenes import SceneSampler, SpriteSheet
from profi.mini.training.latents_stage import random_masks
from profi.mini.training.stage import make_generator, mixed_precision, train_stage
from profi.mini.world import World
from profi.models.backbone import mean_latents
from profi.training.loop import Plan

PLANS = {
    "cpu": Plan(
        steps=8000, batch=16, rate=2e-3, matrix_rate=1e-2, warmup=50, decay=0.6, weight_decay=0.0
    ),
    "gpu": Plan(
        steps=12000, batch=64, rate=2e-3, matrix_rate=1e-2, warmup=50, decay=0.5, weight_decay=0.0
    ),
}
# The first steps see a quarter of each image (the network is convolutional): so many of them, and
# four times as many for the time. What only whole images have is learned in the rest.
QUARTERS = {"cpu": 0.7, "gpu": 0.0}
POOL = 4096


@dataclass(frozen=True)
class LossWeights:
    """What the terms count next to the squared error, of images in [-1, 1].

    `edges`: of the absolute difference between the images' horizontal and vertical differences,
    which is what the eye misses in a blurred reconstruction. `kl`: of the mean KL divergence per
    latent element.
    """

    l1: float = 0.1
    edges: float = 0.05
    kl: float = 1e-5


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio [N] in dB of images [N, 3, H, W] in [0, 1]."""
    return -10 * (a - b).square().flatten(1).mean(1).log10()


def edge_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute error of the differences between neighbouring pixels, [N, 3, H, W] -> []."""
    error = a - b
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def losses(
    model: AutoencoderKL, x: Tensor, g: torch.Generator, weights: LossWeights
) -> dict[str, Tensor]:
    """The weighted terms of one batch [N, 3, H, W] in [-1, 1]; latents are sampled by `g`."""
    posterior = model.encode(x).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=g, device=x.device)
    y = model.decode(posterior.mean + posterior.std * noise).sample.float()
    kl = -0.5 * (1 + posterior.logvar - posterior.mean.square() - posterior.var).float().mean()
    return {
        "mse": F.mse_loss(y, x),
        "l1": weights.l1 * F.l1_loss(y, x),
        "edges": weights.edges * edge_error(y, x),
        "kl": weights.kl * kl,
    }


def scene_pool(sampler: SceneSampler, g: torch.Generator) -> Tensor:
    """POOL images [POOL, 3, H, W] in [0, 1], a quarter of them with a grey hole.

    The inpainting UNet also sees encoded images with grey holes.
    """
    images = sampler.sample(POOL, g).image
    holes = random_masks(POOL // 4, sampler.world.image_size, g)[:, None]
    images[: POOL // 4] = torch.where(holes, 0.5, images[: POOL // 4])
    return images[torch.randperm(POOL, generator=g, device=g.device)]


@torch.no_grad()
def validation_psnr(model: AutoencoderKL, world: World, seed: int) -> float:
    """Mean PSNR in dB over 256 validation scenes, encoded by the mean and decoded."""
    device = next(model.parameters()).device
    sampler = SceneSampler(world, SpriteSheet.load(world, "val", device))
    images = sampler.sample(256, make_generator(device, seed, 3)).image
    found = []
    for part in images.split(32):
        decoded = model.decode(model.encode(part * 2 - 1).latent_dist.mean).sample
        found.append(psnr((decoded / 2 + 0.5).clamp(0, 1), part))
    return torch.cat(found).mean().item()


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train, measure on validation scenes, save to `work/models/vae`; returns the figures."""
    plan = PLANS[world.size]
    torch.manual_seed(seed)
    quarters = QUARTERS[world.size]
    figures, model = fit(
        models.vae(world), world, device, work / "vae", seed, plan, LossWeights(), quarters, minutes
    )
    figures["psnr_db"] = validation_psnr(model, world, seed)
    sampler = SceneSampler(world, SpriteSheet.load(world, "train", device))
    g = make_generator(device, seed, 4)
    model.register_to_config(scaling_factor=1.0)
    latents = [mean_latents(model, sampler.sample(32, g).image * 2 - 1) for _ in range(32)]
    model.register_to_config(scaling_factor=float(1 / torch.cat(latents).std()))
    figures["parameters"] = models.parameters(model)
    model.half().save_pretrained(work / "models" / "vae")
    return figures


def fit(
    model: AutoencoderKL,
    world: World,
    device: torch.device,
    folder: Path,
    seed: int,
    plan: Plan,
    weights: LossWeights,
    quarters: float,
    minutes: float,
) -> tuple[dict, AutoencoderKL]:
    """Train `model` on scenes in `folder`; returns steps and seconds, and the model.

    The first `quarters` of the steps see random quarters of the images.
    """
    model = model.to(device, memory_format=torch.channels_last)
    sampler = SceneSampler(world, SpriteSheet.load(world, "train", device))

    @lru_cache(maxsize=1)  # the current chunk
    def draw(chunk: int) -> Tensor:
        return scene_pool(sampler, make_generator(device, seed, 1, chunk))

    def loss_at(step: int) -> dict[str, Tensor]:
        chunk, i = divmod(step * plan.batch, POOL)
        g = make_generator(device, seed, 2, step)
        x = draw(chunk)[i : i + plan.batch] * 2 - 1
        if step < quarters * plan.steps:
            half = world.image_size // 2
            top, left = torch.randint(half + 1, (2,), generator=g, device=device).tolist()
            x = x[..., top : top + half, left : left + half]
        x = x.contiguous(memory_format=torch.channels_last)
        # Few channels at full size: bfloat16 gains nothing here on a CPU.
        with mixed_precision(device, enabled=device.type == "cuda"):
            return losses(model, x, g, weights)

    figures: dict = train_stage(model, loss_at, plan, folder, minutes)
    return figures, model
