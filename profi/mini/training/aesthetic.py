"""Stage `aesthetic`: the LAION predictor's head, trained on graded corruptions.

It rates how clean a render is, from 0 (heavily corrupted) to 10 (untouched). It is not a model
of human taste, and its scale is not LAION's.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor
from transformers import CLIPModel

from profi.metrics.aesthetic_predictor import AestheticPredictor
from profi.mini import models
from profi.mini.scenes import SceneSampler, Split, SpriteSheet
from profi.mini.training.clip import features, normalise
from profi.mini.training.loop import Plan, make_generator, mixed_precision, train
from profi.mini.world import World

PLANS = {
    "cpu": Plan(steps=1500, batch=128, rate=1e-3, warmup=100, decay=0.7),
    "gpu": Plan(steps=6000, batch=512, rate=1e-3, warmup=100, decay=0.7),
}
POOL = 4096


def graded(images: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Corrupt images by a random grade in [0, 1] each: blur, noise, fading, blocks, warping.

    Returns the images and their ratings 10 * (1 - grade) [N]; a fifth stays untouched.
    """
    n, _, h, w = images.shape
    grade = torch.rand(n, generator=g, device=g.device)
    grade *= torch.rand(n, generator=g, device=g.device) > 0.2
    s = grade[:, None, None, None]
    small = F.interpolate(images, scale_factor=0.2, mode="bilinear", antialias=True)
    blurred = F.interpolate(small, (h, w), mode="bicubic")
    blocks = F.interpolate(small, (h, w), mode="nearest")
    noise = torch.randn(images.shape, generator=g, device=g.device)
    base = F.affine_grid(torch.eye(2, 3, device=g.device).expand(n, 2, 3), [n, 3, h, w], False)
    bend = F.interpolate(
        torch.randn((n, 2, 8, 8), generator=g, device=g.device), (h, w), mode="bicubic"
    )
    warped = F.grid_sample(
        images,
        base + 0.15 * s * bend.permute(0, 2, 3, 1),
        padding_mode="border",
        align_corners=False,
    )
    faded = images + s * 0.8 * (images.mean((1, 2, 3), keepdim=True) - images)
    variants = torch.stack(
        [
            images + s * (blurred - images),
            images + 0.35 * s * noise,
            faded,
            images + s * (blocks - images),
            warped,
        ]
    )
    kind = torch.randint(len(variants), (1, n, 1, 1, 1), generator=g, device=g.device)
    return variants.gather(0, kind.expand(1, *images.shape))[0].clamp(0, 1), 10 * (1 - grade)


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train on the trained CLIP's features, measure rank correlation, save the head."""
    plan = replace(PLANS[world.size], minutes=minutes)
    clip = CLIPModel.from_pretrained(work / "models" / "clip", torch_dtype=torch.float32)
    clip = clip.to(device).eval().requires_grad_(False)
    torch.manual_seed(seed)
    head = AestheticPredictor(clip.config.projection_dim).to(device)

    @lru_cache(maxsize=1)  # the current chunk
    def draw(split: Split, chunk: int) -> tuple[Tensor, Tensor]:
        sampler = SceneSampler(world, SpriteSheet.load(world, split, device))
        g = make_generator(device, seed, 51 + (split == "val"), chunk)
        parts = [graded(sampler.sample(512, g).image, g) for _ in range(POOL // 512)]
        with torch.no_grad(), mixed_precision(device):
            found = [
                features(clip, normalise(images, world.clip_image_size)) for images, _ in parts
            ]
        return torch.cat(found), torch.cat([rating for _, rating in parts])

    def loss_at(step: int) -> dict[str, Tensor]:
        chunk, i = divmod(step * plan.batch, POOL * 8)
        i %= POOL
        x, rating = (t[i : i + plan.batch] for t in draw("train", chunk))
        return {"mse": F.mse_loss(head(x), rating)}

    figures: dict = train(head, loss_at, plan, work / "aesthetic")
    with torch.no_grad():
        x, rating = draw("val", 0)
        ranks = spearmanr(head(x).cpu(), rating.cpu())
    figures["rank_correlation"] = float(ranks.statistic)
    figures["parameters"] = models.parameters(head)
    head.half().save_pretrained(work / "models" / "aesthetic")
    return figures
