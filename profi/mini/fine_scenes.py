"""The embedded world's scenes at four times its size, with detail that only this size shows.

Every object and the background have a weave of fine threads (4.5 to 7 pixels apart, so that a
picture of a quarter of the size has nothing of it), and outlines are sharp. A model that enlarges
the small picture can only guess the weave; what it needs to go on with it is in the large one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from profi.mini.scenes import Scenes, SceneSampler, Split, SpriteSheet
from profi.mini.world import World

FACTOR = 4
SPRITE_SIDE = 256
PERIODS = (4.5, 7.0)  # of the threads, in pixels
STRENGTHS = (0.05, 0.16)  # the weave's amplitude, of [0, 1]
PLAIN = 0.15  # share of surfaces without a weave
CROSSED = 0.5  # share of weaves with threads in two directions


@dataclass(frozen=True)
class FineScenes:
    """Draws scenes of a world at FACTOR times its size from a generator, on its device."""

    sampler: SceneSampler

    @staticmethod
    def load(world: World, split: Split, device: torch.device | str = "cpu") -> FineScenes:
        """The scenes of a split of a world."""
        sheet = SpriteSheet.load(world, split, device)
        large = replace(world, image_size=world.image_size * FACTOR)
        return FineScenes(SceneSampler(large, replace(sheet, rgba=_sharp(sheet.rgba))))

    def sample(self, n: int, g: torch.Generator) -> Scenes:
        """N scenes with their weaves; equal generator states give equal scenes."""
        scenes = self.sampler.sample(n, g)
        rest = ~scenes.masks.any(1, keepdim=True)
        surfaces = torch.cat([rest, scenes.masks], 1)
        image = scenes.image.clone()
        for j in range(surfaces.shape[1]):
            woven = weave(n, image.shape[-1], g)
            image = torch.where(surfaces[:, j, None], image + woven, image)
        return replace(scenes, image=image.clamp(0, 1))


def small(images: Tensor) -> Tensor:
    """The pictures [N, 3, H, W] at the world's own size, antialiased."""
    size = (images.shape[2] // FACTOR, images.shape[3] // FACTOR)
    return F.interpolate(images, size=size, mode="bicubic", antialias=True).clamp(0, 1)


def weave(n: int, size: int, g: torch.Generator) -> Tensor:
    """N weaves [N, 1, size, size] around 0, each of one period, direction, phase and strength."""

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand((n, 1, 1, 1), generator=g, device=g.device) * (high - low) + low

    axis = torch.arange(size, device=g.device, dtype=torch.float32)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    turn, period = uniform(0, math.pi), uniform(*PERIODS)
    wave = 2 * math.pi / period
    phases = uniform(0, 2 * math.pi), uniform(0, 2 * math.pi)
    cos, sin = torch.cos(turn), torch.sin(turn)
    along = torch.sin((cos * x + sin * y) * wave + phases[0])
    across = torch.sin((cos * y - sin * x) * wave + phases[1])
    crossed = torch.rand((n, 1, 1, 1), generator=g, device=g.device) < CROSSED
    there = torch.rand((n, 1, 1, 1), generator=g, device=g.device) >= PLAIN
    pattern = torch.where(crossed, (along + across) / 2, along)
    return pattern * uniform(*STRENGTHS) * there


def _sharp(rgba: Tensor) -> Tensor:
    """Premultiplied sprites [S, 4, n, n] at SPRITE_SIDE, with outlines as sharp as that size."""
    large = F.interpolate(rgba, size=(SPRITE_SIDE,) * 2, mode="bicubic").clamp(0, 1)
    alpha = large[:, 3:]
    steep = ((alpha - 0.5) * 4 + 0.5).clamp(0, 1)
    colour = (large[:, :3] / alpha.clamp(min=1e-3)).clamp(0, 1)
    return torch.cat([colour * steep, steep], 1)
