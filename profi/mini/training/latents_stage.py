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
from profi.mini.training.stage import console, load_vae, make_generator
from profi.mini.world import World
from profi.models.backbone import mean_latents

SHARD = 2048
SHARDS = {"cpu": 32, "gpu": 128}
DRAWN = 32  # scenes at once
ANYWHERE = 2  # masks anywhere per scene; one more lies over an object


def _shapes(centre: Tensor, radius: Tensor, size: int, round_: Tensor) -> Tensor:
    """Axis-aligned ellipses where `round_` [N], else boxes: [N, size, size] bool.

    centre and radius [N, 2] as (x, y) shares of the side.
    """
    axis = (torch.arange(size, device=centre.device) + 0.5) / size
    dx = (axis[None, None, :] - centre[:, 0, None, None]) / radius[:, 0, None, None]
    dy = (axis[None, :, None] - centre[:, 1, None, None]) / radius[:, 1, None, None]
    box = (dx.abs() <= 1) & (dy.abs() <= 1)
    return torch.where(round_[:, None, None], dx.square() + dy.square() <= 1.2, box)


def random_masks(n: int, size: int, g: torch.Generator) -> Tensor:
    """Ellipses and boxes anywhere, a tenth of them twice, a tenth the whole image: [N, H, W]."""

    def one() -> Tensor:
        centre = torch.rand((n, 2), generator=g, device=g.device) * 0.8 + 0.1
        radius = torch.rand((n, 2), generator=g, device=g.device) * 0.28 + 0.1
        return _shapes(centre, radius, size, torch.rand(n, generator=g, device=g.device) < 0.5)

    kind = torch.rand((n, 1, 1), generator=g, device=g.device)
    return one() | (one() & (kind < 0.1)) | (kind > 0.9)


def object_masks(masks: Tensor, g: torch.Generator) -> Tensor:
    """For each scene a loose ellipse or box over one of its objects: [N, K, H, W] -> [N, H, W].

    Scenes without an object get an empty mask.
    """
    n, _, _, size = masks.shape
    seen = masks.flatten(2).any(-1).float()
    pick = torch.multinomial(seen + 1e-6, 1, generator=g)[:, 0]
    chosen = masks[torch.arange(n, device=g.device), pick]
    axis = (torch.arange(size, device=g.device) + 0.5) / size
    columns, rows = chosen.any(1), chosen.any(2)
    low = torch.stack([torch.where(m, axis, 2.0).amin(1) for m in (columns, rows)], 1)
    high = torch.stack([torch.where(m, axis, -1.0).amax(1) for m in (columns, rows)], 1)
    loose = 1 + 0.35 * torch.rand((n, 2), generator=g, device=g.device)
    round_ = torch.rand(n, generator=g, device=g.device) < 0.5
    shape = _shapes((low + high) / 2, ((high - low) / 2).clamp(min=0.02) * loose, size, round_)
    return (shape | chosen) & chosen.flatten(1).any(1)[:, None, None]


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
