"""Stage `controlnet`: a ControlNet that tells the text-to-image UNet what is around the hole.

As the inpainting ControlNet of Stable Diffusion was made (Zhang & Agrawala 2023): the UNet stays
frozen; the condition is the picture in [0, 1] with -1 in the hole; captions are of the whole scene.
Masks are those of the stage `inpaint`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import ControlNetModel, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTextModel

from profi.mini import models
from profi.mini.captions import caption
from profi.mini.training.clip import tokens
from profi.mini.training.diffusion import DROP_CAPTION, PoolMaker, PoolPlan, encode
from profi.mini.training.inpaint import OVER_OBJECTS
from profi.mini.training.loop import Plan, make_generator, mixed_precision, train
from profi.mini.training.masks import object_masks, random_masks
from profi.mini.world import World

PLANS = {
    "cpu": Plan(steps=900, batch=64, rate=1e-3, warmup=50, decay=0.4),
    "gpu": Plan(steps=20000, batch=256, rate=4e-4, warmup=500, decay=0.3),
}
POOLS = {"cpu": PoolPlan(8192, 4), "gpu": PoolPlan(65536, 2)}
# Of the network that brings the condition to the latents' size, one width per halving and one more.
WIDTHS = (16, 32, 96, 256)


@dataclass(frozen=True)
class Pool:
    """P scenes: latents [P, 4, h, w], token ids [P, L], images [P, 3, H, W] uint8, holes."""

    latents: Tensor
    ids: Tensor
    images: Tensor
    holes: Tensor


def condition(images: Tensor, holes: Tensor) -> Tensor:
    """What the ControlNet is told: images [N, 3, H, W] in [0, 1], -1 in the holes [N, H, W]."""
    return torch.where(holes[:, None], -1.0, images)


def make_pool(maker: PoolMaker, number: int, size: int) -> Pool:
    """The pool of that number; the same in every run with the maker's seed."""
    world, device = maker.world, maker.device
    g = make_generator(device, maker.seed, 81, number)
    rng = random.Random(f"{maker.seed}:controlnet:{number}")
    latents, ids, images, holes = [], [], [], []
    for _ in range(size // 512):
        scenes = maker.sampler.sample(512, g)
        texts = [
            caption([world.categories[k] for k in row if k >= 0], rng)
            for row in scenes.category.tolist()
        ]
        texts = ["" if rng.random() < DROP_CAPTION else text for text in texts]
        over, anywhere = object_masks(scenes.masks, g), random_masks(512, world.image_size, g)
        choose = torch.rand((512, 1, 1), generator=g, device=device) < OVER_OBJECTS
        ids.append(tokens(maker.tokenizer, texts, world.token_limit).to(device))
        latents.append(encode(maker.vae, scenes.image))
        images.append((scenes.image * 255).round().byte())
        holes.append(torch.where(choose & over.flatten(1).any(1)[:, None, None], over, anywhere))
    return Pool(torch.cat(latents), torch.cat(ids), torch.cat(images), torch.cat(holes))


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train from the text-to-image UNet's encoder and save to `work/models/controlnet`."""
    plan, pools = replace(PLANS[world.size], minutes=minutes), POOLS[world.size]
    folder = work / "models" / "t2i" / "unet"
    unet = UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32)
    unet = unet.to(device).eval().requires_grad_(False)
    torch.manual_seed(seed + 3)
    widths = WIDTHS[: len(world.vae_channels)]
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=widths).to(device)
    if device.type == "cpu":
        # There the backward pass of fused attention takes several times as long as the plain one.
        unet.set_attn_processor(AttnProcessor())
        control.set_attn_processor(AttnProcessor())
    text = CLIPTextModel.from_pretrained(
        work / "models" / "text_encoder", torch_dtype=torch.float32
    )
    text = text.to(device).eval().requires_grad_(False)
    maker = PoolMaker(world, device, work, seed + 3000)
    make = lru_cache(maxsize=1)(make_pool)  # the current pool
    scheduler = DDPMScheduler.from_config(dict(models.SCHEDULER), prediction_type="v_prediction")

    def loss_at(step: int) -> dict[str, Tensor]:
        number, i = divmod(step * plan.batch, pools.size * pools.uses)
        pool, use = make(maker, number, pools.size), i // pools.size
        order = torch.randperm(
            pools.size, generator=make_generator(device, seed, 82, number, use), device=device
        )
        rows = order[i % pools.size : i % pools.size + plan.batch]
        x0, g = pool.latents[rows], make_generator(device, seed, 83, step)
        noise = torch.randn(x0.shape, generator=g, device=device)
        # Stratified timesteps, as in the UNets' stages.
        spread = torch.arange(len(x0), device=device) + torch.rand(
            len(x0), generator=g, device=device
        )
        t = (spread / len(x0) * 1000).long().clamp(max=999)
        x_t = scheduler.add_noise(x0, noise, t)
        told = condition(pool.images[rows].float() / 255, pool.holes[rows])
        with mixed_precision(device):
            with torch.no_grad():
                context = text(pool.ids[rows]).last_hidden_state
            down, mid = control(x_t, t, context, controlnet_cond=told, return_dict=False)
            prediction = unet(
                x_t,
                t,
                context,
                down_block_additional_residuals=down,
                mid_block_additional_residual=mid,
            ).sample
        target = scheduler.get_velocity(x0, noise, t)
        return {"v": F.mse_loss(prediction.float(), target)}

    figures: dict = train(control, loss_at, plan, work / "controlnet")
    figures["parameters"] = models.parameters(control)
    control.half().save_pretrained(work / "models" / "controlnet")
    return figures
