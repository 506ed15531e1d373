"""What the two UNet stages share: pools of encoded scenes, the noise and the loss."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from profi.mini import models
from profi.mini.captions import caption
from profi.mini.scenes import SceneSampler, SpriteSheet
from profi.mini.training import vae as vae_stage
from profi.mini.training.clip import tokens
from profi.mini.training.loop import Plan, make_generator, mixed_precision, train
from profi.mini.training.masks import object_masks, random_masks
from profi.mini.world import World

DROP_CAPTION = 0.1  # classifier-free guidance needs the unconditional branch


@dataclass(frozen=True)
class Pool:
    """Encoded scenes: latents [P, 4, h, w], and for inpainting those of the masked image and the
    mask at latent size [P, 1, h, w]; token ids [P, L]."""

    latents: Tensor
    ids: Tensor
    masked: Tensor | None = None
    mask: Tensor | None = None


def encode(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Scaled latent means of images in [0, 1]."""
    x = (images * 2 - 1).contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), mixed_precision(x.device):
        latents = vae.encode(x).latent_dist.mean
    return latents.float() * vae.config.scaling_factor


def down(masks: Tensor, size: int) -> Tensor:
    """Nearest-neighbour mask channel [N, 1, size, size] of masks [N, H, W] bool."""
    return F.interpolate(masks[:, None].float(), size=(size, size), mode="nearest")


class PoolMaker:
    """Composes, captions and encodes pools of scenes."""

    def __init__(self, world: World, device: torch.device, work: Path, seed: int) -> None:
        self.world, self.device, self.seed = world, device, seed
        self.vae = vae_stage.load(work, device).to(memory_format=torch.channels_last)
        self.tokenizer = CLIPTokenizer.from_pretrained(work / "models" / "tokenizer")
        self.sampler = SceneSampler(world, SpriteSheet.load(world, "train", device))

    def make(self, number: int, size: int, over_objects: float | None) -> Pool:
        """The pool of that number; the same in every run with this seed.

        `over_objects`: the share of masks that lie over an object, the rest being anywhere; None
        for a pool without masks.
        """
        g = make_generator(self.device, self.seed, 31, number)
        rng = random.Random(f"{self.seed}:{number}")
        latents, ids, known, masks = [], [], [], []
        for _ in range(size // 512):
            scenes = self.sampler.sample(512, g)
            texts = [
                caption([self.world.categories[k] for k in row if k >= 0], rng)
                for row in scenes.category.tolist()
            ]
            texts = ["" if rng.random() < DROP_CAPTION else text for text in texts]
            ids.append(tokens(self.tokenizer, texts, self.world.token_limit).to(self.device))
            latents.append(encode(self.vae, scenes.image))
            if over_objects is not None:
                over = object_masks(scenes.masks, g)
                anywhere = random_masks(512, self.world.image_size, g)
                choose = torch.rand((512, 1, 1), generator=g, device=self.device) < over_objects
                hole = torch.where(choose & over.flatten(1).any(1)[:, None, None], over, anywhere)
                # Zeros (grey) in the hole, as Stable Inpainting's masked image.
                known.append(encode(self.vae, torch.where(hole[:, None], 0.5, scenes.image)))
                masks.append(down(hole, self.world.latent_size))
        return Pool(
            torch.cat(latents),
            torch.cat(ids),
            torch.cat(known) if known else None,
            torch.cat(masks) if masks else None,
        )


@dataclass(frozen=True)
class PoolPlan:
    """A pool of `size` scenes serves `uses` passes, then the next is made."""

    size: int
    uses: int


def fit(
    unet: UNet2DConditionModel,
    world: World,
    device: torch.device,
    work: Path,
    stage: str,
    plan: Plan,
    pools: PoolPlan,
    seed: int,
    over_objects: float | None = None,
) -> dict:
    """Train a UNet on v-prediction, with masks where `over_objects` is given (see `PoolMaker`).

    Saves it as `models/t2i` or, a UNet of 9 input channels, as `models/inpaint`.
    """
    unet.to(device, memory_format=torch.channels_last)
    maker = PoolMaker(world, device, work, seed)
    text = CLIPTextModel.from_pretrained(
        work / "models" / "text_encoder", torch_dtype=torch.float32
    )
    text = text.to(device).eval().requires_grad_(False)
    scheduler = DDPMScheduler.from_config(dict(models.SCHEDULER), prediction_type="v_prediction")
    make = lru_cache(maxsize=1)(maker.make)  # the current pool

    def loss_at(step: int) -> dict[str, Tensor]:
        number, i = divmod(step * plan.batch, pools.size * pools.uses)
        pool, use = make(number, pools.size, over_objects), i // pools.size
        order = torch.randperm(
            pools.size, generator=make_generator(device, seed, 32, number, use), device=device
        )
        rows = order[i % pools.size : i % pools.size + plan.batch]
        x0 = pool.latents[rows]
        g = make_generator(device, seed, 33, step)
        noise = torch.randn(x0.shape, generator=g, device=device)
        # Stratified timesteps: the loss varies strongly with t, an even spread steadies it.
        spread = (
            torch.arange(len(x0), device=device) + torch.rand(len(x0), generator=g, device=device)
        ) / len(x0)
        t = (spread * 1000).long().clamp(max=999)
        x_t = scheduler.add_noise(x0, noise, t)
        inputs = x_t
        if pool.mask is not None and pool.masked is not None:
            inputs = torch.cat([x_t, pool.mask[rows], pool.masked[rows]], 1)
        with mixed_precision(device):
            with torch.no_grad():
                context = text(pool.ids[rows]).last_hidden_state
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            prediction = unet(inputs, t, context).sample
        target = scheduler.get_velocity(x0, noise, t)
        return {"v": F.mse_loss(prediction.float(), target)}

    figures: dict = train(unet, loss_at, plan, work / stage)
    figures["parameters"] = models.parameters(unet)
    folder = work / "models" / ("t2i" if over_objects is None else "inpaint")
    unet.half().save_pretrained(folder / "unet")
    (folder / "scheduler").mkdir(exist_ok=True)
    config = {**models.SCHEDULER, "prediction_type": "v_prediction"}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config, indent=1) + "\n")
    return figures
