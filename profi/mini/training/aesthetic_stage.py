"""Stage `aesthetic`: the LAION predictor's head, trained on graded corruptions.

It rates how clean a render is, from 0 (heavily corrupted) to 10 (untouched). It is not a model
of human taste, and its scale is not LAION's.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor
from transformers import CLIPModel

from profi.metrics.aesthetic import AestheticPredictor
from profi.mini import models
from profi.mini.scenes import SceneSampler, Split, SpriteSheet
from profi.mini.training.clip_stage import features, normalise
from profi.mini.training.crops import graded
from profi.mini.training.stage import make_generator, mixed_precision, train_stage
from profi.mini.world import World
from profi.training.loop import Plan

PLANS = {
    "cpu": Plan(steps=1500, batch=128, rate=1e-3, warmup=100, decay=0.7),
    "gpu": Plan(steps=6000, batch=512, rate=1e-3, warmup=100, decay=0.7),
}
POOL = 4096


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train on the trained CLIP's features, measure rank correlation, save the head."""
    plan = PLANS[world.size]
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

    figures: dict = train_stage(head, loss_at, plan, work / "aesthetic", minutes)
    with torch.no_grad():
        x, rating = draw("val", 0)
        ranks = spearmanr(head(x).cpu(), rating.cpu())
    figures["rank_correlation"] = float(ranks.statistic)
    figures["parameters"] = models.parameters(head)
    head.half().save_pretrained(work / "models" / "aesthetic")
    return figures
