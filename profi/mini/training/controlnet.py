"""Stage `controlnet`: a ControlNet that tells the text-to-image UNet what is around the hole.

As the inpainting ControlNet of Stable Diffusion was made (Zhang & Agrawala 2023): the UNet stays
frozen; the condition is the picture in [0, 1] with -1 in the hole; captions are of the whole scene.
Masks are those of the stage `inpaint`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, ControlNetModel
from torch import Tensor

from profi.mini import models
from profi.mini.scenes import SceneSampler, SpriteSheet
from profi.mini.training.diffusion import HOLES, TRUE, Order, Prompts, trained_unet, v_prediction
from profi.mini.training.latents import DRAWN, encode
from profi.mini.training.masks import object_masks, random_masks
from profi.mini.training.stage import load_vae, make_generator, mixed_precision, train_stage
from profi.mini.world import World
from profi.training.loop import Plan, stratified_timesteps
from profi.training.smartbrush_training import plain_attention_on_cpu

PLANS = {
    "cpu": Plan(steps=2000, batch=64, rate=1e-3, warmup=50, decay=0.4),
    "gpu": Plan(steps=20000, batch=256, rate=4e-4, warmup=500, decay=0.3),
}
POOL, USES = 8192, 8  # a pool of so many scenes serves so many passes, then the next is made
# Of the network that brings the condition to the latents' size, one width per halving and one more.
WIDTHS = (16, 32, 96, 256)


@dataclass(frozen=True)
class Pool:
    """P scenes: latents [P, C, h, w], categories [P, K], images [P, 3, H, W] uint8, holes."""

    latents: Tensor
    kinds: Tensor
    images: Tensor
    holes: Tensor


def condition(images: Tensor, holes: Tensor) -> Tensor:
    """The ControlNet's condition: images [N, 3, H, W] in [0, 1], -1 in the holes [N, H, W]."""
    return torch.where(holes[:, None], -1.0, images)


def make_pool(vae: AutoencoderKL, sampler: SceneSampler, g: torch.Generator, size: int) -> Pool:
    """A pool of `size` scenes."""
    latents, kinds, images, holes = [], [], [], []
    for _ in range(size // DRAWN):
        scenes = sampler.sample(DRAWN, g)
        over = object_masks(scenes.masks, g)
        anywhere = random_masks(DRAWN, sampler.world.image_size, g)
        choose = torch.rand((DRAWN, 1, 1), generator=g, device=g.device) < HOLES.over_objects
        latents.append(encode(vae, scenes.image))
        kinds.append(scenes.category)
        images.append((scenes.image * 255).round().byte())
        holes.append(torch.where(choose & over.flatten(1).any(1)[:, None, None], over, anywhere))
    return Pool(torch.cat(latents), torch.cat(kinds), torch.cat(images), torch.cat(holes))


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train from the text-to-image UNet's encoder and save to `work/models/controlnet`."""
    plan = PLANS[world.size]
    unet = trained_unet(work, "t2i").to(device).eval().requires_grad_(False)
    torch.manual_seed(seed + 3)
    widths = WIDTHS[: len(world.vae_channels)]
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=widths).to(device)
    for model in (unet, control):
        plain_attention_on_cpu(model)
    prompts, vae = Prompts(world, device, work / "models"), load_vae(work, device)
    sampler = SceneSampler(world, SpriteSheet.load(world, "train", device))
    order, scheduler = Order(POOL, plan.batch, seed + 3000), v_prediction()

    @lru_cache(maxsize=1)  # the current pool
    def pool_of(number: int) -> Pool:
        return make_pool(vae, sampler, make_generator(device, seed, 81, number), POOL)

    def loss_at(step: int) -> dict[str, Tensor]:
        pool = pool_of(step * plan.batch // (POOL * USES))
        rows, g = order(step).to(device), make_generator(device, seed, 83, step)
        x0 = pool.latents[rows]
        noise = torch.randn(x0.shape, generator=g, device=device)
        t = stratified_timesteps(len(x0), g)
        x_t = scheduler.add_noise(x0, noise, t)
        context = prompts(pool.kinds[rows], TRUE, random.Random(f"{seed}:controlnet:{step}"))
        seen = condition(pool.images[rows].float() / 255, pool.holes[rows])
        with mixed_precision(device):
            down, mid = control(x_t, t, context, controlnet_cond=seen, return_dict=False)
            prediction = unet(
                x_t,
                t,
                context,
                down_block_additional_residuals=down,
                mid_block_additional_residual=mid,
            ).sample
        target = scheduler.get_velocity(x0, noise, t)
        return {"v": F.mse_loss(prediction.float(), target)}

    figures: dict = train_stage(control, loss_at, plan, work / "controlnet", minutes)
    figures["parameters"] = models.parameters(control)
    control.half().save_pretrained(work / "models" / "controlnet")
    return figures
