"""Stage `latents`: scenes encoded once, for all stages that train a UNet on them.

Encoding costs as much as half a training step of the UNets, and a diffusion model learns something
new from a scene with every new time and noise, so scenes are encoded once and served many times.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor

from profi.mini.scenes import SceneSampler, SpriteSheet
from profi.mini.training.diffusion import object_masks, random_masks
from profi.mini.training.stage import console, load_vae, make_generator
from profi.mini.world import World
from profi.models.backbone import mean_latents

SHARD = 2048
SHARDS = {"cpu": 32, "gpu": 128}
DRAWN = 32  # scenes at once
ANYWHERE = 2  # masks anywhere per scene; one more lies over an object


@dataclass(frozen=True)
class Latents:
    """P encoded scenes with M masks each, the last of them over an object.

    x0 [P, C, h, w] float16; masked [P, M, C, h, w] float16, the latents of the masked images;
    mask [P, M, h, w] uint8, 1 where a latent's pixels are masked in part; kinds [P, K] int8, the
    visible objects' categories, -1 for none.
    """

    x0: Tensor
    masked: Tensor
    mask: Tensor
    kinds: Tensor

    @classmethod
    def load(cls, work: Path, world: World) -> Latents:
        """All shards of `work`, in memory."""
        shards = [load_file(_file(work, i)) for i in range(SHARDS[world.size])]
        return cls(**{name: torch.cat([s[name] for s in shards]) for name in shards[0]})

    def __len__(self) -> int:
        return len(self.x0)


def _file(work: Path, number: int) -> Path:
    return work / "latents" / f"shard-{number:03d}.safetensors"


def encode(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Scaled latent means of images in [0, 1]."""
    return mean_latents(vae, (images * 2 - 1).contiguous(memory_format=torch.channels_last))


def down(masks: Tensor, size: int) -> Tensor:
    """The latents that masks [N, H, W] bool touch: [N, 1, size, size], 0 or 1."""
    factor = masks.shape[-1] // size
    return F.max_pool2d(masks[:, None].float(), factor)


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Write the shards that are not there yet to `work/latents`."""
    vae = load_vae(work, device).to(memory_format=torch.channels_last)
    sampler = SceneSampler(world, SpriteSheet.load(world, "train", device))
    (work / "latents").mkdir(exist_ok=True)
    for number in range(SHARDS[world.size]):
        target = _file(work, number)
        if target.exists():
            continue
        g = make_generator(device, seed, 31, number)
        parts = [_part(vae, sampler, g) for _ in range(SHARD // DRAWN)]
        shard = {
            name: torch.cat([part[name] for part in parts]).cpu().contiguous() for name in parts[0]
        }
        save_file(shard, target.with_suffix(".tmp"))
        target.with_suffix(".tmp").rename(target)
        console.print(f"latents: shard {number + 1} of {SHARDS[world.size]}")
    return {"scenes": SHARD * SHARDS[world.size]}


def _part(vae: AutoencoderKL, sampler: SceneSampler, g: torch.Generator) -> dict[str, Tensor]:
    world = sampler.world
    scenes = sampler.sample(DRAWN, g)
    holes = [random_masks(DRAWN, world.image_size, g) for _ in range(ANYWHERE)]
    over = object_masks(scenes.masks, g)
    holes.append(torch.where(over.flatten(1).any(1)[:, None, None], over, holes[0]))
    # Zeros (grey) in the hole, as Stable Inpainting's masked image.
    masked = [encode(vae, torch.where(hole[:, None], 0.5, scenes.image)) for hole in holes]
    return {
        "x0": encode(vae, scenes.image).half(),
        "masked": torch.stack(masked, 1).half(),
        "mask": torch.cat([down(hole, world.latent_size) for hole in holes], 1).byte(),
        "kinds": scenes.category.to(torch.int8),
    }
