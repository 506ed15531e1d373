"""Stage `vae`: an AutoencoderKL on scenes, and on pieces of them in grey holes."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from profi.mini import models
from profi.mini.scenes import SceneSampler, SpriteSheet
from profi.mini.training.loop import Plan, make_generator, mixed_precision, train
from profi.mini.training.masks import random_masks
from profi.mini.world import World

PLANS = {
    "cpu": Plan(steps=2400, batch=16, rate=2e-3, warmup=100, decay=0.5, weight_decay=0.0),
    "gpu": Plan(steps=12000, batch=64, rate=1e-3, warmup=200, decay=0.5, weight_decay=0.0),
}
KL_WEIGHT = 2e-4
POOL = 4096


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio [N] in dB of images [N, 3, H, W] in [0, 1]."""
    return -10 * (a - b).square().flatten(1).mean(1).log10()


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train, measure on validation scenes, save to `work/models/vae`; returns the figures."""
    plan = replace(PLANS[world.size], minutes=minutes)
    torch.manual_seed(seed)
    model = models.vae(world).to(device, memory_format=torch.channels_last)
    sampler = SceneSampler(world, SpriteSheet.load(world, "train", device))

    @lru_cache(maxsize=1)  # the current chunk
    def draw(chunk: int) -> Tensor:
        g = make_generator(device, seed, 1, chunk)
        images = torch.cat([sampler.sample(256, g).image for _ in range(POOL // 256)])
        # The inpainting UNet also sees encoded images with grey holes: a quarter gets one.
        holes = random_masks(POOL // 4, world.image_size, g)[:, None]
        images[: POOL // 4] = torch.where(holes, 0.5, images[: POOL // 4])
        return images[torch.randperm(POOL, generator=g, device=device)]

    def loss_at(step: int) -> dict[str, Tensor]:
        chunk, i = divmod(step * plan.batch, POOL)
        x = (draw(chunk)[i : i + plan.batch] * 2 - 1).contiguous(memory_format=torch.channels_last)
        g = make_generator(device, seed, 2, step)
        with mixed_precision(device):
            posterior = model.encode(x).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=g, device=device)
            y = model.decode(posterior.mean + posterior.std * noise).sample
        error = y.float() - x
        kl = -0.5 * (1 + posterior.logvar - posterior.mean.square() - posterior.var).float().mean()
        return {"mse": error.square().mean(), "l1": 0.1 * error.abs().mean(), "kl": KL_WEIGHT * kl}

    figures: dict = train(model, loss_at, plan, work / "vae")
    with torch.no_grad():
        g = make_generator(device, seed, 3)
        val = SceneSampler(world, SpriteSheet.load(world, "val", device)).sample(256, g).image
        latents = model.encode(val * 2 - 1).latent_dist.mean
        figures["psnr_db"] = (
            psnr(model.decode(latents).sample.clamp(-1, 1) / 2 + 0.5, val).mean().item()
        )
        scenes = sampler.sample(256, make_generator(device, seed, 4)).image
        train_latents = model.encode(scenes * 2 - 1).latent_dist.mean
        model.register_to_config(scaling_factor=float(1 / train_latents.std()))
    figures["parameters"] = models.parameters(model)
    model.half().save_pretrained(work / "models" / "vae")
    return figures


def load(work: Path, device: torch.device) -> AutoencoderKL:
    """The trained VAE in float32, frozen."""
    model = AutoencoderKL.from_pretrained(work / "models" / "vae", torch_dtype=torch.float32)
    return model.to(device).eval().requires_grad_(False)
