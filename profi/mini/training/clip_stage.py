"""Stages `clip` and `clip_vision`: the tokenizer and a dual encoder, trained contrastively.

Many samples of a batch show the same things, so a sample's positives are all the texts that
name the same set of categories; the rest are negatives. Part of the whole scenes are corrupted by
a grade, which a linear read-out of the image embedding must tell: labels alone teach features that
forget how clean a render is, and the aesthetic head has to read it from them.
"""

from __future__ import annotations

import random
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from profi.mini import models
from profi.mini.scenes import (
    TEMPLATES,
    Scenes,
    SceneSampler,
    SpriteSheet,
    build_tokenizer,
    caption,
    with_article,
)
from profi.mini.training.crops import corrupt, graded, object_crops, recolour
from profi.mini.training.stage import make_generator, mixed_precision, train_stage
from profi.mini.world import World
from profi.training.loop import Plan

PLANS = {
    "cpu": Plan(
        steps=2500, batch=128, rate=1e-3, matrix_rate=5e-3, decay=0.7, weight_decay=0.05, warmup=50
    ),
    "gpu": Plan(steps=8000, batch=512, rate=1e-3, warmup=300, decay=0.5, weight_decay=0.05),
}
POOL = 4096
RATING_WEIGHT = 3.0  # of the squared error of the rating, in tenths, next to the contrastive loss
# CLIP's own normalisation constants (its preprocessor_config.json).
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def normalise(images: Tensor, side: int) -> Tensor:
    """[N, 3, H, W] in [0, 1] -> CLIP's input [N, 3, side, side]."""
    if images.shape[-1] != side:
        images = F.interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (MEAN, STD))
    return (images - mean) / std


class RatedCLIP(nn.Module):
    """A dual encoder and, for the time of training, a linear rating of its image embedding."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip
        self.rating = nn.Linear(clip.config.projection_dim, 1)


def features(model: CLIPModel, pixels: Tensor | None = None, ids: Tensor | None = None) -> Tensor:
    """L2-normalised embeddings [N, D] of normalised pixels or of token ids."""
    if pixels is not None:
        x = model.visual_projection(model.vision_model(pixels).pooler_output)
    else:
        x = model.text_projection(model.text_model(ids).pooler_output)
    return F.normalize(x.float(), dim=-1)


def tokens(tokenizer: CLIPTokenizer, texts: list[str], limit: int) -> Tensor:
    """Padded token ids [N, limit]."""
    return tokenizer(texts, padding="max_length", max_length=limit, return_tensors="pt").input_ids


def zero_shot(
    model: CLIPModel, tokenizer: CLIPTokenizer, world: World, crops: Tensor, kind: Tensor
) -> float:
    """Share of crops whose nearest label prompt is their own category."""
    ids = tokens(tokenizer, list(world.categories), world.token_limit).to(crops.device)
    text = features(model, ids=ids)
    image = features(model, normalise(crops, world.clip_image_size))
    return (((image @ text.T).argmax(1)) == kind).float().mean().item()


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train both towers; saves clip, tokenizer and text_encoder (which the UNets will read)."""
    folder = work / "models" / "tokenizer"
    # Its trainer breaks ties differently each time: a resumed stage must keep what it began with.
    known = folder.exists() and (work / "clip").exists()
    tokenizer = (
        CLIPTokenizer.from_pretrained(folder)
        if known
        else build_tokenizer(folder, world.token_limit)
    )
    torch.manual_seed(seed)
    sot, eot = tokenizer.bos_token_id, tokenizer.eos_token_id
    model = models.clip(world, len(tokenizer), sot, eot).to(device)
    figures = contrast(model, tokenizer, world, device, work / "clip", seed, minutes)
    model.text_model.save_pretrained(work / "models" / "text_encoder")
    return figures


def run_vision(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train a new vision tower against the text tower, which stays as it is.

    For when the scenes changed after `clip`: the UNets were trained on the text tower, and no
    weight that ever saw the old scenes takes part in the scores. Replaces `work/models/clip`.
    """
    folder = work / "models" / "clip"
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    trained = CLIPModel.from_pretrained(folder, torch_dtype=torch.float32)
    torch.manual_seed(seed + 2)
    sot, eot = tokenizer.bos_token_id, tokenizer.eos_token_id
    model = models.clip(world, len(tokenizer), sot, eot)
    for name in ("text_model", "text_projection"):
        part = getattr(model, name)
        part.load_state_dict(getattr(trained, name).state_dict())
        part.requires_grad_(False)
    return contrast(model.to(device), tokenizer, world, device, work / "clip_vision", seed, minutes)


def contrast(
    model: CLIPModel,
    tokenizer: CLIPTokenizer,
    world: World,
    device: torch.device,
    folder: Path,
    seed: int,
    minutes: float,
) -> dict:
    """Train what is not frozen in `folder`, measure zero-shot accuracy on validation crops and
    save to `models/clip` next to it.
    """
    plan = PLANS[world.size]
    both = RatedCLIP(model).to(device)
    sampler = SceneSampler(world, SpriteSheet.load(world, "train", device))

    def scene_texts(scenes: Scenes, rng: random.Random) -> tuple[list[str], list[int]]:
        kinds = [[k for k in row if k >= 0] for row in scenes.category.tolist()]
        texts = [caption([world.categories[k] for k in row], rng) for row in kinds]
        return texts, [sum(1 << k for k in set(row)) for row in kinds]

    @lru_cache(maxsize=1)  # the current chunk
    def draw(chunk: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        g, rng = make_generator(device, seed, 11, chunk), random.Random(f"{seed}:{chunk}")
        side = world.clip_image_size
        images, ids, sets, ratings = [], [], [], []
        for _ in range(POOL // 512):
            scenes = sampler.sample(384, g)
            crops, kind = object_crops(scenes, side, g, jitter=0.15)
            crops = recolour(corrupt(crops, g, share=0.3), g, share=0.7)
            names = [world.categories[k] for k in kind.tolist()]
            texts = [
                rng.choice(("{}", *TEMPLATES)).format(rng.choice((n, with_article(n))))
                for n in names
            ]
            part = scene_texts(scenes, rng)
            whole, rating = graded(scenes.image[:192], g)
            images += [
                normalise(crops[:320], side),
                normalise(recolour(whole, g, share=0.7), side),
            ]
            ratings += [torch.full((320,), torch.nan, device=device), rating / 10]
            ids.append(tokens(tokenizer, texts[:320] + part[0][:192], world.token_limit))
            sets += [1 << k for k in kind.tolist()[:320]] + part[1][:192]
        order = torch.randperm(len(sets), generator=g, device=device)
        return (
            torch.cat(images)[order],
            torch.cat(ids).to(device)[order],
            torch.tensor(sets, device=device)[order],
            torch.cat(ratings)[order],
        )

    def loss_at(step: int) -> dict[str, Tensor]:
        chunk, i = divmod(step * plan.batch, POOL)
        pixels, ids, sets, rating = (t[i : i + plan.batch] for t in draw(chunk))
        with mixed_precision(device):
            image, text = features(model, pixels), features(model, ids=ids)
        logits = model.logit_scale.exp().clamp(max=100) * image @ text.T
        same = (sets[:, None] == sets[None, :]).float()
        target = same / same.sum(1, keepdim=True)
        loss = F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)
        rated = ~rating.isnan()
        error = F.mse_loss(both.rating(image[rated])[:, 0], rating[rated])
        return {"contrastive": loss / 2, "rating": RATING_WEIGHT * error}

    figures: dict = train_stage(both, loss_at, plan, folder, minutes)
    g = make_generator(device, seed, 12)
    scenes = SceneSampler(world, SpriteSheet.load(world, "val", device)).sample(512, g)
    crops, kind = object_crops(scenes, world.image_size, g, jitter=0.0)
    with torch.no_grad():
        figures["zero_shot_top1"] = zero_shot(model, tokenizer, world, crops, kind)
    figures["parameters"] = models.parameters(model)
    target = folder.parent / "models" / "clip"
    model.half().save_pretrained(target)
    tokenizer.save_pretrained(target)
    side = world.clip_image_size
    crop = {"height": side, "width": side}
    CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=crop).save_pretrained(target)
    return figures
